"""A metric improves along an order of arms: with size, with data, with what a paper adds."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import numpy as np

from research import statistics
from research.claims.outcomes import Lacking, Results
from research.claims.verdict import (
  INCONCLUSIVE,
  NOT_REPRODUCED,
  REPRODUCED,
  Judged,
  Verdict,
  decide,
  inconclusive,
)
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Trend(Judged):
  """Each arm of an ordered set is better than the one before it.

  The effect is the gain per arm: the slope of a straight line through the arms, numbered 0, 1, 2,
  ..., one for each seed. It must be above zero, and no single step may be against it beyond the
  noise: a curve that turns has a slope as well.

  Attributes:
    ordered: names of at least three arms, the worst first.
    numbers: the paper's figures, one for each arm, or nothing.
    unit: as of `Claim`.
  """

  _: dataclasses.KW_ONLY
  ordered: tuple[str, ...]
  numbers: tuple[float, ...] = ()
  unit: str = ""

  def __post_init__(self):
    super().__post_init__()
    if len(self.ordered) < 3:
      raise UserError(f"{self.name}: ordered={self.ordered} is no trend; name three arms, or more.")
    if len(self.numbers) not in (0, len(self.ordered)):
      raise UserError(f"{self.name}: numbers={self.numbers} must be one for each arm, or nothing.")
    if self.numbers and not self.unit and not self._papers() > 0:
      raise UserError(
        f"{self.name}: by numbers={self.numbers} and lower={self.lower} the paper's arms get "
        "worse; order them with the worst first, and say lower=False where more is better."
      )

  def arms(self) -> tuple[str, ...]:
    """The arms that it needs."""
    return self.ordered

  def judge(self, results: Results) -> Verdict:
    """What the runs say; `INCONCLUSIVE` with the reason where some are missing or failed."""
    sign = -1 if self.lower else 1
    known = {
      "means": f"gain in {self.metric} from each arm to the next, {' to '.join(self._ends())}",
      "paper": self._papers(),
      "unit": self.unit,
    }
    try:
      table = sign * results.table(self.ordered, self.metric, self.seeds)
    except Lacking as error:
      return inconclusive(error, **known)
    slopes = _slopes(table)
    effect = statistics.mean(slopes)
    outcome, reason = decide(effect)
    steps = [statistics.mean(table[:, i + 1] - table[:, i]) for i in range(table.shape[1] - 1)]
    names = [f"{a} to {b}" for a, b in pairwise(self.ordered)]
    against = [name for name, step in zip(names, steps) if step.high < 0]
    if outcome == REPRODUCED and against:
      outcome, reason = NOT_REPRODUCED, f"It turns: {', '.join(against)} is against it."
    gained = sum(step.estimate > 0 for step in steps)
    if outcome == REPRODUCED and gained < len(steps):
      unclear = [name for name, step in zip(names, steps) if step.estimate <= 0]
      outcome = INCONCLUSIVE
      reason = (
        f"It gains as a whole, but not from {', '.join(unclear)}; the noise may explain that."
      )
    return Verdict(
      outcome,
      reason,
      effect=effect,
      detectable=statistics.detectable(statistics.deviation(slopes), effect.n),
      pairs=tuple(map(float, slopes)),
      facts=(("steps that gain", f"{gained} of {len(steps)}"),),
      **known,
    )

  def _papers(self) -> float:
    """The gain per arm in the paper, NaN where it gives none; of another unit, only its size."""
    if not self.numbers:
      return math.nan
    slope = float(_slopes(np.array([self.numbers]))[0])
    return abs(slope) if self.unit else -slope if self.lower else slope

  def _ends(self) -> tuple[str, str]:
    return self.ordered[0], self.ordered[-1]


def _slopes(table: np.ndarray) -> np.ndarray:
  """The least-squares slope of each row over 0, 1, 2, ..."""
  places = np.arange(table.shape[1]) - (table.shape[1] - 1) / 2
  return table @ places / (places @ places)
