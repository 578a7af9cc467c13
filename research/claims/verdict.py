"""What the arms of an ablation reached, and what follows from it for a claim."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from research.errors import UserError, nearest
from research.statistics import Interval

REPRODUCED = "REPRODUCED"
NOT_REPRODUCED = "NOT REPRODUCED"
INCONCLUSIVE = "INCONCLUSIVE"


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What one run reached.

  Attributes:
    values: "<eval>.<value>" -> what its newest evaluation measured.
    parameters, tokens: of the model, and seen in training; NaN where nobody counted.
    flops, seconds: what it cost.
    failure: why it counts for nothing, or "".
  """

  values: Mapping[str, float] = dataclasses.field(default_factory=dict)
  parameters: float = math.nan
  tokens: float = math.nan
  flops: float = math.nan
  seconds: float = math.nan
  failure: str = ""


class Lacking(UserError):
  """What a claim needs and the runs do not have; its text is the reason of a verdict."""


@dataclasses.dataclass(frozen=True)
class Results:
  """Outcomes by arm and seed."""

  outcomes: Mapping[str, Mapping[int, Outcome]]

  def table(self, arms: Sequence[str], metric: str, seeds: int) -> np.ndarray:
    """The metric of the arms (columns) in every seed that all of them finished (rows).

    Raises:
      Lacking: those are fewer than `seeds`, or a value is missing or not finite.
    """
    rows = [
      [_value(outcomes[arm], metric, arm, seed) for arm in arms]
      for seed, outcomes in self._paired(arms, seeds)
    ]
    return np.array(rows, float)

  def of(self, arms: Sequence[str], what: str, seeds: int) -> np.ndarray:
    """Another attribute of the outcomes, such as "parameters", as `table` has the metric."""
    paired = self._paired(arms, seeds)
    found = np.array([[getattr(outcomes[arm], what) for arm in arms] for _, outcomes in paired])
    for i, arm in enumerate(arms):
      if not np.isfinite(found[:, i]).all():
        raise Lacking(f"{arm} has not written its {what}")
    return found

  def _paired(self, arms: Sequence[str], seeds: int) -> list[tuple[int, dict[str, Outcome]]]:
    for arm in arms:
      if arm not in self.outcomes:
        raise Lacking(
          f"there is no arm {arm!r}.{nearest(arm, self.outcomes)} "
          f"There are {', '.join(self.outcomes) or 'none'}"
        )
    shared = sorted(set.intersection(*(set(self.outcomes[arm]) for arm in arms)))
    found, failed = [], []
    for seed in shared:
      outcomes = {arm: self.outcomes[arm][seed] for arm in arms}
      wrong = [f"{arm}/seed_{seed} {o.failure}" for arm, o in outcomes.items() if o.failure]
      failed += wrong
      if not wrong:
        found.append((seed, outcomes))
    if len(found) < max(seeds, 2):
      why = f": {'; '.join(failed[:4])}" if failed else ""
      raise Lacking(f"{len(found)} of {max(seeds, 2)} seeds are complete{why}")
    return found


def _value(outcome: Outcome, metric: str, arm: str, seed: int) -> float:
  if metric not in outcome.values:
    raise Lacking(
      f"{arm}/seed_{seed} has not measured {metric}.{nearest(metric, outcome.values)} "
      f"It measured {', '.join(outcome.values) or 'nothing'}"
    )
  if not math.isfinite(outcome.values[metric]):
    raise Lacking(f"{arm}/seed_{seed} diverged: {metric} is {outcome.values[metric]}")
  return outcome.values[metric]


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What the runs say about a claim, at the scale at which they were made.

  Attributes:
    outcome: `REPRODUCED`, `NOT_REPRODUCED` or `INCONCLUSIVE`.
    reason: why, in one sentence.
    effect: positive where the paper is borne out; None where nothing could be measured.
    means: what is to be known of the effect, as "better minus worse of heldout.loss".
    detectable: the smallest effect that so many seeds find in 80 of 100 trials, were the noise
      as large as it was in this sample.
    paper: the paper's own effect in the same direction, NaN where it gives none.
    unit: of the paper's effect where it is another than that of ours.
    pairs: the effect in each seed.
  """

  outcome: str
  reason: str
  effect: Interval | None = None
  means: str = ""
  detectable: float = math.nan
  paper: float = math.nan
  unit: str = ""
  pairs: tuple[float, ...] = ()


class Judged(Protocol):
  """Every form of claim: what the paper says, which arms show it, and the judgement."""

  name: str
  paper: str
  where: str
  sentence: str
  metric: str
  lower: bool

  def arms(self) -> tuple[str, ...]:
    """The arms that it needs."""

  def judge(self, results: Results) -> Verdict:
    """What the runs say; never an exception for runs that are missing or failed."""


def inconclusive(error: Lacking, **known: Any) -> Verdict:
  """The verdict where the runs lack something."""
  return Verdict(INCONCLUSIVE, str(error).rstrip(".") + ".", **known)
