"""Which checkpoints of a run stay: the newest, some for ever, the best, and what is pinned."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path

from research import disk
from research.errors import UserError

# What steps scored: step -> "evaluation.measure" -> value.
Scores = dict[int, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Keep:
  """The checkpoints that are not deleted.

  Attributes:
    newest: so many of the last ones.
    every: those of steps that are multiples of it, for ever; None for none.
    lowest: a measure of an evaluation, such as "heldout.loss": the step where it was least.
    highest: the same for what should be large, such as "heldout.accuracy".
  """

  newest: int = 2
  every: int | None = None
  lowest: str | None = None
  highest: str | None = None

  def __post_init__(self):
    for field in ("newest", "every"):
      value = getattr(self, field)
      if value is not None and value < 1:
        raise UserError(f"keep.{field}={value} must be at least 1.")
    for field in ("lowest", "highest"):
      value = getattr(self, field)
      if value is not None and not all(value.partition(".")):
        raise UserError(
          f"keep.{field}={value!r} is no measure of an evaluation; write it as 'heldout.loss'."
        )

  def chosen(self, steps: Iterable[int], scores: Scores, pinned: Iterable[int]) -> set[int]:
    """Those of `steps` that stay. A step can be the best only where it was evaluated and saved."""
    steps = sorted(steps)
    kept = {*steps[-self.newest :], *pinned} & {*steps}
    if self.every:
      kept |= {step for step in steps if step % self.every == 0}
    for measure, best in ((self.lowest, min), (self.highest, max)):
      scored = {step: scores[step][measure] for step in steps if measure in scores.get(step, {})}
      scored = {step: value for step, value in scored.items() if math.isfinite(value)}
      if scored:
        kept.add(best(scored, key=scored.get))
    return kept


def read_scores(path: Path) -> Scores:
  """What steps scored; nothing where the file is missing, or damaged, which is told."""
  try:
    scores = json.loads(path.read_text(encoding="utf-8"))
    return {
      int(step): {name: float(value) for name, value in values.items()}
      for step, values in scores.items()
    }
  except FileNotFoundError:
    return {}
  except (OSError, ValueError, AttributeError, TypeError, RecursionError):
    print(f"warning: {path} is damaged; from now on it is written anew", file=sys.stderr)
    return {}


def write_scores(path: Path, scores: Scores) -> None:
  """Says so where they cannot be written: a run need not end for them."""
  try:
    disk.replace(path, json.dumps(scores))
  except OSError as error:
    print(f"warning: {path} cannot be written: {error.strerror}", file=sys.stderr)
