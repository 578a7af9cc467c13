"""A config.json, asked for one value after another; what is not understood is an error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.errors import UserError, nearest, shown

# Theirs -> ours. "gelu" is exact, "gelu_new" and others are GPT's, by tanh.
ACTIVATIONS = {
  "gelu": "gelu_exact",
  "gelu_new": "gelu",
  "gelu_pytorch_tanh": "gelu",
  "gelu_python": "gelu_exact",
  "quick_gelu": "quick_gelu",
  "relu": "relu",
  "silu": "swish",
  "swish": "swish",
}
THEIRS = {"gelu": "gelu_new", "gelu_exact": "gelu", "relu": "relu", "swish": "silu"}
THEIRS["quick_gelu"] = "quick_gelu"
REQUIRED = object()
LAYERS, LARGEST = 10_000, 2**31  # at most: whoever asks for more wants us to count to it


class Config:
  """The values of a config.json, or of a part of one.

  Attributes:
    where: for messages.
    values: as JSON has them.
  """

  def __init__(self, where: Path | str, values: Mapping[str, Any]):
    self.where, self.values = where, dict(values)

  def size(self, name: str, default: Any = REQUIRED, *, least: int = 1) -> Any:
    """A count, not below `least`; the default stands for what is absent or null."""
    most = LAYERS if "layer" in name else LARGEST
    fits = lambda n: type(n) is int and least <= n <= most  # noqa: E731
    return self._value(name, default, f"a count, at least {least} and at most {most:,}", fits)

  def number(self, name: str, default: Any = REQUIRED) -> Any:
    """A number above 0."""
    fits = lambda x: type(x) in (int, float) and 0 < x < float("inf")  # noqa: E731
    return self._value(name, default, "a number above 0", fits)

  def share(self, name: str, default: float = 0.0) -> float:
    """A probability below 1."""
    fits = lambda x: type(x) in (int, float) and 0 <= x < 1  # noqa: E731
    return float(self._value(name, default, "a probability below 1", fits))

  def truth(self, name: str, default: bool) -> bool:
    """True or false."""
    return self._value(name, default, "true or false", lambda x: type(x) is bool)

  def names(self, name: str) -> list[str] | None:
    """A list of names, None where it is absent or null."""
    fits = lambda xs: isinstance(xs, list) and all(isinstance(x, str) for x in xs)  # noqa: E731
    return self._value(name, None, "a list of names", fits)

  def part(self, name: str) -> Config:
    """A config within this one."""
    found = self._value(name, {}, "an object", lambda x: isinstance(x, dict))
    return Config(f"{self.where}: {name}", found)

  def activation(self, name: str, default: str) -> str:
    """Our name of an activation."""
    theirs = self._value(name, default, "a name", lambda x: isinstance(x, str))
    if theirs not in ACTIVATIONS:
      raise UserError(
        f"{self.where}: {name}={theirs!r} is no activation that is known here; these are: "
        f"{', '.join(ACTIVATIONS)}.{nearest(theirs, ACTIVATIONS)}"
      )
    return ACTIVATIONS[theirs]

  def only(self, why: str, **wanted: Any) -> None:
    """UserError unless values that are present are the only ones that are understood."""
    for name, value in wanted.items():
      if self.values.get(name, value) not in (value, None):
        raise UserError(
          f"{self.where}: {name}={self.values[name]!r} is not supported, only {value!r}: {why}."
        )

  def _value(self, name: str, default: Any, kind: str, fits) -> Any:
    value = self.values.get(name)
    if value is None:
      if default is REQUIRED:
        raise UserError(f"{self.where} has no {name}; it must be {kind}.")
      return default
    if not fits(value):
      raise UserError(f"{self.where}: {name}={shown(value)} is not {kind}.")
    return value
