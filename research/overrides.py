"""An experiment with some of its parts replaced, each named by its dotted path.

What replaces a part must fit the field that it goes into; else the error says what would.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from research.errors import UserError, nearest, shown
from research.mesh import Sharding


def override(value: Any, overrides: Mapping[str, Any]) -> Any:
  """`value` with its dotted paths replaced, for example {"optimizer.learning_rate.peak": 3e-4}.

  Raises:
    UserError: a path that does not exist (names the nearest), a value of another type, or an
      override that changes nothing.
  """
  return override_each([value], overrides)[0]


def override_each(values: Sequence[Any], overrides: Mapping[str, Any]) -> list[Any]:
  """`override` of several, of which some may have a value already, but not all of them."""
  values = list(values)
  for path, new in overrides.items():
    made = [_replace(value, path.split("."), new, path) for value in values]
    if all(a is b for a, b in zip(made, values)):
      raise UserError(f"{path}={shown(new)} changes nothing: it is that already; drop it.")
    values = made
  return values


def restored(values: Sequence[Any], overrides: Mapping[str, Any]) -> list[Any]:
  """`override_each` as a run remembers it: what changed something then may be the default now."""
  values = list(values)
  for path, new in overrides.items():
    values = [_replace(value, path.split("."), new, path) for value in values]
  return values


def fields(value: Any) -> dict[str, Any] | None:
  """The named parts of a component, or None for a plain value.

  A Linen module's `name` and `parent` say where it stands in a model, not what it is.
  """
  if isinstance(value, Mapping):
    return {str(key): part for key, part in value.items()}
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    hidden = ("name", "parent") if hasattr(value, "parent") else ()
    return {
      field.name: getattr(value, field.name)
      for field in dataclasses.fields(value)
      if field.init and field.name not in hidden
    }
  if isinstance(value, tuple) and any(fields(part) is not None for part in value):
    return {str(i): part for i, part in enumerate(value)}
  return None


def _replace(value: Any, path: list[str], new: Any, whole: str) -> Any:
  parts = fields(value)
  head, rest = path[0], path[1:]
  if parts is None or head not in parts:
    at = ".".join(whole.split(".")[: -len(path)]) or "the experiment"
    if parts is None:
      raise UserError(f"{whole}: {at} is {shown(value)}, which has no fields; set {at}=... itself.")
    raise UserError(
      f"{whole}: {at} has no {head!r}.{nearest(head, parts)} "
      f"It has {', '.join(parts) or 'nothing'}."
    )
  old = parts[head]
  if rest:
    new = _replace(old, rest, new, whole)
  else:
    new = check(new, old, _hint(value, head), whole)
    new = old if new == old and type(new) is type(old) else new
  return value if new is old else _with(value, head, new)


def _with(value: Any, name: str, part: Any) -> Any:
  if isinstance(value, Mapping):
    return {**value, type(next(iter(value)))(name): part}
  if isinstance(value, tuple):
    return tuple(part if str(i) == name else old for i, old in enumerate(value))
  if hasattr(value, "clone"):  # a Linen module
    return value.clone(**{name: part})
  return dataclasses.replace(value, **{name: part})


def _hint(value: Any, name: str) -> Any:
  if isinstance(value, Mapping | tuple):
    return None
  try:
    return typing.get_type_hints(type(value)).get(name)
  except (NameError, TypeError):  # an annotation that only a type checker resolves
    return None


_UNIONS = (typing.Union, types.UnionType)


def check_field(component: Any, name: str, value: Any, path: str) -> None:
  """UserError where what a field holds is not of the type that it is annotated with.

  Of a protocol it must have the methods. Annotations that are neither types nor protocols say
  nothing.
  """
  hint = _hint(component, name)
  plain = typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,)
  known = all(isinstance(kind, type) and kind is not Any for kind in plain)
  if not known or any(_is(value, kind) for kind in plain):
    return
  raise UserError(_mismatch(path, value, hint))


def _is(value: Any, kind: type) -> bool:
  if getattr(kind, "_is_protocol", False):
    asked = [name for name, part in vars(kind).items() if callable(part) and name[0] != "_"]
    return not isinstance(value, type) and all(hasattr(value, name) for name in asked)
  if kind is float:
    return isinstance(value, int | float) and not isinstance(value, bool)
  return isinstance(value, kind) and not (isinstance(value, bool) and kind is int)


def check(new: Any, old: Any, hint: Any, path: str) -> Any:
  """`new` as a value for a field that holds `old` and is annotated with `hint`, or a UserError."""
  if isinstance(new, str) and isinstance(old, Sharding):
    return Sharding.parse(new)
  if fields(old) is not None and fields(new) is None and not _allows(hint, new):
    raise UserError(
      f"{path}={shown(new)}: it is a {type(old).__name__}; set its fields: "
      + ", ".join(f"{path}.{name}" for name in list(fields(old))[:8])
      + "."
    )
  allowed = _allows(hint, new) if hint is not None else _same_kind(old, new)
  if not allowed:
    if isinstance(new, int) and not isinstance(new, bool) and _allows(hint or type(old), 1.0):
      return _fraction(new, path)
    raise UserError(_mismatch(path, new, type(old) if hint is None else hint))
  return new


def _fraction(new: int, path: str) -> float:
  try:
    return float(new)
  except OverflowError as error:
    raise UserError(f"{path}={shown(new)} is larger than any fraction; give less.") from error


def _mismatch(path: str, value: Any, hint: Any) -> str:
  return f"{path}={shown(value)} is {_article(type(value).__name__)}; {path} is {_say(hint)}."


def _same_kind(old: Any, new: Any) -> bool:
  return old is None or type(new) is type(old)


def _allows(hint: Any, value: Any) -> bool:
  """Whether `value` fits an annotation; those that are not plain types stand for components."""
  if hint is None or hint is Any:
    return hint is Any and fields(value) is not None
  origin = typing.get_origin(hint)
  if origin in _UNIONS:
    return any(_allows(type(None) if h is None else h, value) for h in typing.get_args(hint))
  if origin is typing.Literal:
    return value in typing.get_args(hint)
  if origin is tuple:
    inner = [h for h in typing.get_args(hint) if h is not Ellipsis]
    return isinstance(value, tuple) and (
      not inner or all(any(_allows(h, v) for h in inner) for v in value)
    )
  if origin is not None:
    return isinstance(value, origin) if isinstance(origin, type) else fields(value) is not None
  if not isinstance(hint, type):
    return fields(value) is not None
  if hint in (int, float, str, bool):
    return type(value) is hint
  try:
    return isinstance(value, hint)
  except TypeError:  # a protocol, which says what a component does and not what it is
    return fields(value) is not None


def _say(hint: Any) -> str:
  if typing.get_origin(hint) is typing.Literal:
    return "one of " + ", ".join(map(repr, typing.get_args(hint)))
  if typing.get_origin(hint) in _UNIONS:
    return " or ".join(_say(h) for h in typing.get_args(hint))
  if hint is type(None):
    return "None"
  if hint is Any:
    return "a component"
  return _article(hint.__name__) if isinstance(hint, type) else str(hint)


def _article(word: str) -> str:
  return f"an {word}" if word[0] in "aeiou" else f"a {word}"
