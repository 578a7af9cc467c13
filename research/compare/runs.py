"""The first step at which two runs part, from what they left: no array is read.

First what they logged: each value of each step that both wrote down. Then their checkpoints: the
fingerprints in the manifests of the steps that both have, name by name.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from research import checkpoint
from research.log import lines
from research.log.lines import Line

# Of the machine and its clock, not of what was computed.
_CLOCK = ("time", "tokens_per_second", "peak_share", "data_wait_share")
_NEVER = ("timing", "model")


@dataclasses.dataclass(frozen=True)
class Logged:
  """What two logs say.

  Attributes:
    compared: steps that both logged, ascending.
    step: the first at which a value differs, or None.
    split: "train", or the name of the evaluation.
    values: name -> (first, second) of the values that differ there.
  """

  compared: tuple[int, ...]
  step: int | None = None
  split: str = ""
  values: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Saved:
  """What two runs' checkpoints say.

  Attributes:
    compared: steps of which both have a checkpoint, ascending.
    equal: the last of those before `step`, or None.
    step: the first whose arrays differ, or None.
    arrays: names of those that differ, in the order of the state.
    of: how many both have.
    alone: names that only one of them has.
  """

  compared: tuple[int, ...]
  equal: int | None = None
  step: int | None = None
  arrays: tuple[str, ...] = ()
  of: int = 0
  alone: tuple[str, ...] = ()


def logged(a: Path, b: Path) -> Logged:
  """Compares metrics.jsonl of two run folders."""
  first, second = (_by_step(folder / "metrics.jsonl") for folder in (a, b))
  # Of one step training comes before what was evaluated after it.
  both = sorted(first.keys() & second.keys(), key=lambda key: (key[0], key[1] != "train", key[1]))
  steps = tuple(sorted({step for step, _ in both}))
  for step, split in both:
    values = _apart(first[step, split], second[step, split])
    if values:
      return Logged(steps, step, split, values)
  return Logged(steps)


def saved(a: Path, b: Path) -> Saved:
  """Compares the manifests of two run folders.

  Raises:
    IntegrityError: one of them is damaged.
  """
  folders = (folder / checkpoint.FOLDER for folder in (a, b))
  equal = None
  with checkpoint.Checkpoints(next(folders)) as one, checkpoint.Checkpoints(next(folders)) as other:
    steps = tuple(sorted(set(one.steps.all()) & set(other.steps.all())))
    for step in steps:
      first, second = one.stored(step).arrays, other.stored(step).arrays
      both = [name for name in first if name in second]
      arrays = tuple(name for name in both if first[name] != second[name])
      alone = tuple(sorted(first.keys() ^ second.keys()))
      if arrays or alone:
        return Saved(steps, equal, step, arrays, len(both), alone)
      equal = step
  return Saved(steps, equal)


def _by_step(path: Path) -> dict[tuple[int, str], Line]:
  """(step, split) -> the last line of it."""
  return {
    (line["step"], str(line.get("split"))): line
    for line in lines.read(path)[0]
    if isinstance(line.get("step"), int) and line.get("split") not in _NEVER
  }


def _apart(a: Line, b: Line) -> dict[str, tuple[Any, Any]]:
  names = [name for name in a if name in b and name not in _CLOCK]
  return {name: (a[name], b[name]) for name in names if a[name] != b[name]}
