"""From a command line to experiments: `file.py[:function] knob=v part.field=v`.

A word without a dot sets a knob, an argument of the file's function; a dotted word overrides a
field of the experiment that the function returned. A run folder remembers both.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import inspect
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from research.errors import UserError, nearest
from research.experiment import Experiment, check, override


@dataclasses.dataclass(frozen=True)
class Recipe:
  """An experiment file's function with what the command line says of it.

  Attributes:
    path: of the experiment file.
    function: name of the function in it.
    knobs: arguments for the function.
    overrides: dotted path -> value, applied to what the function returns.
  """

  path: Path
  function: str
  knobs: dict[str, Any]
  overrides: dict[str, Any]

  def experiment(self) -> Experiment:
    """The one experiment that it names; UserError when the function yields several."""
    experiments = self.experiments()
    if len(experiments) != 1:
      names = ", ".join(e.name for e in experiments[:8])
      raise UserError(
        f"{self.path}:{self.function} yields {len(experiments)} experiments ({names}); "
        "this command takes one."
      )
    return experiments[0]

  def command(self, workdir: Path) -> str:
    """The line that runs it (again)."""
    words = [f"{k}={v}" for k, v in {**self.knobs, **self.overrides}.items()]
    target = str(self.path) + (f":{self.function}" if self.function != "experiment" else "")
    return shlex.join(["research", "run", target, *words, "--workdir", str(workdir)])

  def experiments(self) -> list[Experiment]:
    """All experiments that it names, with the overrides applied to each."""
    function = functions(self.path)[self.function]
    value = function(**_checked(function, self.knobs, self.path))
    values = list(value) if isinstance(value, Iterable) else [value]
    for item in values:
      if not isinstance(item, Experiment):
        raise UserError(
          f"{self.path}:{self.function} returned {item!r}; it must return an Experiment "
          "or yield several."
        )
    return [override(item, self.overrides) for item in values]


def recipe(target: str, words: Sequence[str] = ()) -> Recipe:
  """Reads `file.py[:function]` and the `name=value` words that follow it.

  Raises:
    UserError: no such file or function, or a word that is not `name=value`.
  """
  path, _, function = target.partition(":")
  available = functions(Path(path))
  function = function or ("experiment" if "experiment" in available else "")
  if function not in available:
    raise UserError(
      f"{path} has no function {function or 'experiment'!r}.{nearest(function, available)} "
      f"It has {', '.join(available) or 'none'}."
    )
  knobs, overrides = {}, {}
  names = inspect.signature(available[function]).parameters
  for word in words:
    name, equals, text = word.partition("=")
    if not equals and word.isidentifier() and type(_default(names.get(word))) is bool:
      text = "True"  # `full` alone switches the knob on
    elif not equals or not name:
      raise UserError(f"{word!r} is not name=value; write for example steps=100.")
    target_of = overrides if "." in name or name not in names else knobs
    if name in knobs or name in overrides:
      raise UserError(f"{name} is given twice; drop one.")
    target_of[name] = literal(text)
  for name in overrides:
    if "." not in name and name not in _experiment_fields():
      known = [*names, *_experiment_fields()]
      raise UserError(
        f"{name}: {path}:{function} has no such knob.{nearest(name, known)} "
        f"Its knobs: {', '.join(names) or 'none'}; dotted names override fields "
        "(see --help)."
      )
  return Recipe(Path(path), function, knobs, overrides)


def functions(path: Path) -> dict[str, Callable[..., Any]]:
  """The public functions that an experiment file defines, by name.

  Raises:
    UserError: the file is missing, is not Python, or fails when imported; names file and line.
  """
  if not path.is_file():
    folder = path.parent if path.parent.is_dir() else Path()
    others = sorted(str(p) for p in folder.glob("*.py"))
    raise UserError(
      f"{path}: no such experiment file.{nearest(str(path), others)} "
      f"Here are {', '.join(others) or 'none'}."
    )
  if path.suffix != ".py":
    raise UserError(f"{path}: an experiment file is Python, with a name that ends in .py.")
  digest = hashlib.blake2b(str(path.resolve()).encode(), digest_size=6).hexdigest()
  name = f"research_experiment_{path.stem}_{digest}"
  if name in sys.modules:
    return _public(sys.modules[name])
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module
  sys.path.insert(0, str(path.resolve().parent))  # an ablation imports its base from its side
  try:
    spec.loader.exec_module(module)
  except UserError:
    raise
  except (SyntaxError, UnicodeDecodeError, ValueError) as error:
    line = getattr(error, "lineno", None)
    raise UserError(f"{path}{f':{line}' if line else ''}: not valid Python: {error}.") from error
  except Exception as error:  # whatever the user's own file raises is the user's to mend
    raise UserError(f"{path}:{_line(error, path)}: {type(error).__name__}: {error}.") from error
  finally:
    sys.path.pop(0)
    if sys.exc_info()[0] is not None:
      sys.modules.pop(name, None)
  return _public(module)


def literal(text: str) -> Any:
  """A Python literal (`3e-4`, `None`, `(1, 2)`); anything else is the text itself."""
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    return text


def _public(module: Any) -> dict[str, Callable[..., Any]]:
  return {
    name: value
    for name, value in vars(module).items()
    if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
  }


def _checked(function: Callable[..., Any], knobs: dict[str, Any], path: Path) -> dict[str, Any]:
  """The knobs with their types checked against the function's defaults and annotations."""
  parameters = inspect.signature(function, eval_str=True).parameters
  for name in parameters:
    if name not in knobs and parameters[name].default is inspect.Parameter.empty:
      raise UserError(f"{path}:{function.__name__} needs {name}=...; give it on the command line.")
  checked = {}
  for name, value in knobs.items():
    default, hint = _default(parameters[name]), parameters[name].annotation
    hint = None if hint is inspect.Parameter.empty else hint
    if isinstance(default, str) and not isinstance(value, str):
      value = str(value)  # `file=2024` is a name, not a number
    if default == value and type(default) is type(value):
      raise UserError(f"{name}={value!r} changes nothing: it is the default; drop it.")
    checked[name] = check(value, default, hint, name)
  return checked


def _default(parameter: inspect.Parameter | None) -> Any:
  if parameter is None or parameter.default is inspect.Parameter.empty:
    return None
  return parameter.default


def _experiment_fields() -> Iterable[str]:
  return [field.name for field in dataclasses.fields(Experiment)]


def _line(error: BaseException, path: Path) -> int | str:
  """The last line of the experiment file in the error's traceback."""
  line, trace = "?", error.__traceback__
  while trace:
    if Path(trace.tb_frame.f_code.co_filename) == path:
      line = trace.tb_lineno
    trace = trace.tb_next
  return line
