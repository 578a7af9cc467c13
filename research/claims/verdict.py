"""What follows for a claim from what was measured."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any

from research.claims.outcomes import Lacking, Results
from research.errors import UserError
from research.statistics import Interval

REPRODUCED = "REPRODUCED"
NOT_REPRODUCED = "NOT REPRODUCED"
INCONCLUSIVE = "INCONCLUSIVE"


@dataclasses.dataclass(frozen=True)
class Line:
  """A line of a verdict's figure: where it goes, and the points (x, y) that were measured."""

  name: str
  path: tuple[tuple[float, float], ...]
  points: tuple[tuple[float, float], ...]


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What the runs say about a claim, at the scale at which they were made.

  Attributes:
    outcome: `REPRODUCED`, `NOT_REPRODUCED` or `INCONCLUSIVE`.
    reason: why, in one sentence.
    means: what the effect is, in words.
    effect: what was measured; None where nothing could be.
    asked: the range in which all of the effect's interval must lie: above 0, or within a tolerance.
    detectable: the smallest effect that so many seeds find in 80 of 100 trials, if the noise is
      what this sample says it is; NaN where the claim is not of a difference.
    paper: the paper's own effect, NaN where it gives none.
    unit: of the paper's effect where it is another than that of ours.
    pairs: the effect in each seed.
    facts: what else was found, by name, in words.
    lines, across: a figure of the metric, over the logarithm of what `across` names.
  """

  outcome: str
  reason: str
  means: str = ""
  effect: Interval | None = None
  asked: tuple[float, float] = (0.0, math.inf)
  detectable: float = math.nan
  paper: float = math.nan
  unit: str = ""
  pairs: tuple[float, ...] = ()
  facts: tuple[tuple[str, str], ...] = ()
  lines: tuple[Line, ...] = ()
  across: str = ""


@dataclasses.dataclass(frozen=True)
class Judged(abc.ABC):
  """What every form of claim has: a paper says something, and arms can show it.

  Attributes:
    name: a word for it, unique in its file.
    sentence: what the paper says, in our words.
    paper: authors and year.
    where: table, figure or section.
    metric: "<eval>.<value>", as evaluations write it ("heldout.loss").
    seeds: that all arms must have finished; more are used where there are more.
    lower: whether less of the metric is better.
  """

  name: str
  sentence: str
  _: dataclasses.KW_ONLY
  paper: str
  where: str
  metric: str
  seeds: int = 3
  lower: bool = True

  def __post_init__(self):
    for field in ("name", "paper", "where", "sentence"):
      if not getattr(self, field):
        raise UserError(f"a claim has no {field}; say which paper says what, and where.")
    evaluation, _, value = self.metric.rpartition(".")
    if not (evaluation and value):
      raise UserError(
        f"{self.name}: metric={self.metric!r} is not '<eval>.<value>'; write 'heldout.loss'."
      )
    if self.seeds < 2:
      raise UserError(f"{self.name}: seeds={self.seeds} show no noise; at least 2 do.")
    arms = self.arms()
    if len(set(arms)) < len(arms):
      raise UserError(f"{self.name}: an arm is named twice in {', '.join(arms)}; name others.")

  @abc.abstractmethod
  def arms(self) -> tuple[str, ...]:
    """The arms that it needs."""

  @abc.abstractmethod
  def judge(self, results: Results) -> Verdict:
    """What the runs say; `INCONCLUSIVE` with the reason where some are missing or failed."""


def decide(effect: Interval, least: float = 0.0, paper: float = 0.0) -> tuple[str, str]:
  """The verdict on an effect that the paper says is positive, with its reason.

  Args:
    effect: its interval over seeds.
    least: the smallest effect that counts: an interval wholly below it excludes the claim.
    paper: the paper's effect: an interval that holds zero and not this excludes the claim as well.
  """
  excluded = "An effect of {:.3g}, which would bear it out, is excluded."
  if effect.low == effect.high:
    same = "Every seed gave the same: there is no noise but that of the data, which is not counted."
    return (REPRODUCED if effect.low > 0 and effect.low >= least else NOT_REPRODUCED), same
  if effect.high < 0:
    return NOT_REPRODUCED, "The whole interval is on the other side: the opposite was measured."
  if effect.high < least:
    return NOT_REPRODUCED, excluded.format(least)
  if effect.low > 0:
    return REPRODUCED, "The whole interval is on the paper's side."
  if effect.high < paper:
    return NOT_REPRODUCED, excluded.format(paper)
  return INCONCLUSIVE, "The interval holds zero: what was measured is within the noise."


def decide_within(effect: Interval, within: float, what: str, tolerance: str) -> tuple[str, str]:
  """The verdict on an effect that is to be none, but for a tolerance, with its reason.

  Args:
    effect: its interval over seeds.
    within: the tolerance.
    what, tolerance: both in words, for the reason.
  """
  if -within <= effect.low and effect.high <= within:
    return REPRODUCED, f"The {what} is within {tolerance}, and so is its whole interval."
  if effect.high < -within or effect.low > within:
    return NOT_REPRODUCED, f"The {what} is more than {tolerance}, beyond the noise."
  return INCONCLUSIVE, f"The interval of the {what} is partly within {tolerance}, partly not."


def inconclusive(error: Lacking, **known: Any) -> Verdict:
  """The verdict where the runs lack something."""
  return Verdict(INCONCLUSIVE, str(error).rstrip(".") + ".", **known)
