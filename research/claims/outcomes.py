"""What the arms of an ablation reached, by seed: the side of a claim that was measured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from research.errors import UserError, nearest


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
    paired = self._paired(arms, seeds)
    return np.array(
      [[_value(runs[a], metric, f"{a}/seed_{s}") for a in arms] for s, runs in paired]
    )

  def sizes(self, arms: Sequence[str], what: str, seeds: int) -> np.ndarray:
    """ "parameters" or "tokens" of the same runs, in the same shape."""
    found = [[getattr(runs[arm], what) for arm in arms] for _, runs in self._paired(arms, seeds)]
    for arm, column in zip(arms, zip(*found, strict=True), strict=True):
      if not all(value > 0 for value in column):
        raise Lacking(f"{arm} did not write its {what}")
    return np.array(found)

  def _paired(self, arms: Sequence[str], seeds: int) -> list[tuple[int, dict[str, Outcome]]]:
    """Seeds with the outcomes of all arms, of those that all finished."""
    for arm in arms:
      if arm not in self.outcomes:
        raise Lacking(
          f"There is no arm {arm!r}.{nearest(arm, self.outcomes)} "
          f"There are {', '.join(self.outcomes) or 'none'}"
        )
    found, failed = [], {}
    for seed in sorted(set.intersection(*(set(self.outcomes[arm]) for arm in arms))):
      runs = {arm: self.outcomes[arm][seed] for arm in arms}
      failures = [(arm, run.failure) for arm, run in runs.items() if run.failure]
      for failure in failures:
        failed.setdefault(failure, []).append(seed)
      if not failures:
        found.append((seed, runs))
    if len(found) < seeds:
      raise Lacking(f"{len(found)} of {seeds} seeds are complete{_told(failed)}")
    return found


def _told(failed: Mapping[tuple[str, str], Sequence[int]]) -> str:
  """Why so few: the same failure of an arm in several seeds once."""
  parts = [
    f"{arm} {failure} with seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    for (arm, failure), seeds in failed.items()
  ]
  more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
  return f": {'; '.join(parts[:3])}{more}" if parts else ""


def _value(outcome: Outcome, metric: str, name: str) -> float:
  if metric not in outcome.values:
    raise Lacking(
      f"{name} did not measure {metric}.{nearest(metric, outcome.values)} "
      f"It measured {', '.join(outcome.values) or 'nothing'}"
    )
  value = outcome.values[metric]
  if not math.isfinite(value):
    raise Lacking(f"{name} diverged: its {metric} is {value}")
  return value
