"""What a run starts from where it does not start from chance: the parameters of another run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from research.errors import UserError

SHOWN = 3  # names in a line


@dataclasses.dataclass(frozen=True)
class InitFrom:
  """Parameters of another run, with which this one begins; when it is resumed, they are its own.

  The moving average is taken where the other run keeps one. The data of this run has to be in the
  other one's vocabulary: `data.FromRun(folder)` is the tokenizer for it. A run with adapters is
  merged first (`research merge`), unless this one has the same.

  Every parameter is accounted for, here and there; what neither has a counterpart nor is excused
  by `new` or `unused` is an error. A BERT without its heads, under a classifier:

    InitFrom("runs/bert", parts=(("body/", ""),), new=("^head/",), unused=("_head/",))

  Attributes:
    run: the other run's folder; also one that was imported (`research import hf`).
    step: which of its checkpoints; the newest where none is chosen.
    lowest: a measure of an evaluation, such as "heldout.loss": the checkpoint where it was least.
    highest: the same for what should be large, such as "heldout.accuracy".
    parts: (beginning of names here, beginning there); the longest one that fits counts.
    new: expressions over names here, found anywhere in them, of what keeps its initial values.
    unused: expressions over names there, of what is not taken.
  """

  run: str
  step: int | None = None
  lowest: str | None = None
  highest: str | None = None
  parts: tuple[tuple[str, str], ...] = (("", ""),)
  new: tuple[str, ...] = ()
  unused: tuple[str, ...] = ()

  def __post_init__(self):
    chosen = {name: getattr(self, name) for name in ("step", "lowest", "highest")}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if len(chosen) > 1:
      said = ", ".join(f"{name}={value!r}" for name, value in chosen.items())
      raise UserError(f"init_from: {said} choose a checkpoint each; give one of them.")
    for field in ("new", "unused"):
      expressions = getattr(self, field)
      if not isinstance(expressions, tuple):
        raise UserError(f"init_from.{field}={expressions!r} must be a tuple: write ('^head/',).")
      for expression in expressions:
        try:
          re.compile(expression)
        except (re.error, TypeError) as error:
          raise UserError(
            f"init_from.{field}: {expression!r} is not a regular expression: {error}."
          ) from error
    texts = [text for pair in self.parts if isinstance(pair, tuple) for text in pair]
    if len(texts) != 2 * len(self.parts) or not all(isinstance(text, str) for text in texts):
      raise UserError(f"init_from.parts={self.parts!r} must be pairs: write (('body/', ''),).")

  def counterpart(self, name: str) -> str | None:
    """The other run's name of what is called `name` here, None where no part holds it."""
    fitting = [(here, there) for here, there in self.parts if name.startswith(here)]
    if not fitting:
      return None
    here, there = max(fitting, key=lambda pair: len(pair[0]))
    return there + name[len(here) :]

  def match(self, wanted: Mapping[str, Any], stored: Mapping[str, Any], where: str) -> Match:
    """Which stored array becomes which parameter.

    Args:
      wanted: name here -> shape and dtype of a parameter.
      stored: name there -> shape and dtype of an array, the dtype as a word.
      where: the arrays are, for the error.

    Raises:
      UserError: parameters without a counterpart, of another shape, or left over.
    """
    taken, new, wrong = {}, [], []
    for name, leaf in wanted.items():
      there = self.counterpart(name)
      if _any(self.new, name):
        new.append(name)
      elif there is None:
        wrong.append(f"{name} is in no part")
      elif there not in stored:
        wrong.append(f"{there} is missing")
      elif _say(stored[there]) != _say(leaf):
        wrong.append(f"{there} is {_say(stored[there])}, wanted {_say(leaf)}")
      elif there in taken.values():
        wrong.append(f"{there} is wanted twice")
      else:
        taken[name] = there
    if not taken:
      wrong = wrong or ["nothing of it is taken"]
    seen = {self.counterpart(name) for name in wanted}
    unused = [name for name in stored if name not in taken.values()]
    wrong += [
      f"{name} is left over" for name in unused if name not in seen and not _any(self.unused, name)
    ]
    if wrong:
      raise UserError(
        f"this experiment cannot start from {where}: {some(wrong, '; ')}; choose the model that "
        "the run has, or say in init_from what is new, what is unused, and which parts agree."
      )
    return Match(taken, new, unused)


@dataclasses.dataclass(frozen=True)
class Match:
  """What is taken of another run: name here -> name there; what is new here; what is unused."""

  taken: dict[str, str]
  new: list[str]
  unused: list[str]


def some(names: list[str], between: str = ", ") -> str:
  """The first of them, and how many more there are."""
  more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
  return between.join(names[:SHOWN]) + more


def _any(expressions: tuple[str, ...], name: str) -> bool:
  return any(re.search(expression, name) for expression in expressions)


def _say(leaf: Any) -> str:
  return f"{leaf.dtype}{list(leaf.shape)}"
