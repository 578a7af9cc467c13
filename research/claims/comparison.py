"""One arm is better than another: the sentence that most tables of papers are made of."""

from __future__ import annotations

import dataclasses
import math

from research import statistics
from research.claims.verdict import (
  INCONCLUSIVE,
  NOT_REPRODUCED,
  REPRODUCED,
  Lacking,
  Results,
  Verdict,
  inconclusive,
)
from research.errors import UserError
from research.statistics import Interval


@dataclasses.dataclass(frozen=True)
class Claim:
  """One arm is better than another, on average over seeds.

  It is reproduced when the whole interval of the paired differences is on the paper's side, and
  not reproduced when all of it is on the other side, or below `least`: then an effect that would
  bear the paper out can be excluded. An interval around zero that still has room for one decides
  nothing, and more seeds or a longer run would.

  Attributes:
    name: a word for it, unique in its file.
    paper: authors and year.
    where: table, figure or section.
    sentence: what the paper says, in our words.
    better, worse: names of arms.
    metric: "<eval>.<value>", as evaluations write it ("heldout.loss").
    seeds: that both arms must have finished; more are used where there are more.
    lower: whether less of the metric is better.
    numbers: the paper's figures, (better, worse), or nothing.
    unit: of the paper's figures where it is not the metric's own ("BLEU" beside a loss): they are
      then shown, and not compared.
    least: the smallest effect that would bear the paper out, in the metric's unit. Left out, it is
      the paper's own effect where that has the same unit, and zero where not.
  """

  name: str
  _: dataclasses.KW_ONLY
  paper: str
  where: str
  sentence: str
  better: str
  worse: str
  metric: str
  seeds: int = 3
  lower: bool = True
  numbers: tuple[float, ...] = ()
  unit: str = ""
  least: float | None = None

  def __post_init__(self):
    check(self)
    if self.better == self.worse:
      raise UserError(f"{self.name}: better and worse are both {self.better!r}; name two arms.")
    if len(self.numbers) not in (0, 2):
      raise UserError(f"{self.name}: numbers={self.numbers} must be (better, worse), or nothing.")
    if self.least is not None and self.least < 0:
      raise UserError(f"{self.name}: least={self.least} is a size, and must not be below 0.")

  def arms(self) -> tuple[str, ...]:
    """The arms that it needs."""
    return self.better, self.worse

  def judge(self, results: Results) -> Verdict:
    """What the runs say; `INCONCLUSIVE` with the reason where some are missing or failed."""
    sign = 1 if self.lower else -1
    paper = sign * (self.numbers[1] - self.numbers[0]) if self.numbers else math.nan
    known = {"paper": paper, "unit": self.unit}
    known["means"] = f"{self.metric}, {self.better} {'below' if self.lower else 'above'}"
    known["means"] += f" {self.worse}"
    try:
      table = results.table(self.arms(), self.metric, self.seeds)
    except Lacking as error:
      return inconclusive(error, **known)
    pairs = sign * (table[:, 1] - table[:, 0])
    effect = statistics.mean(pairs)
    seen = statistics.detectable(statistics.noise(pairs), effect.n)
    least = self.least
    if least is None:
      least = max(paper, 0.0) if self.numbers and not self.unit else 0.0
    outcome, reason = decide(effect, least)
    return Verdict(
      outcome, reason, effect=effect, detectable=seen, pairs=tuple(map(float, pairs)), **known
    )


def decide(effect: Interval, least: float) -> tuple[str, str]:
  """The verdict on an effect that the paper says is positive, with its reason.

  Args:
    effect: its interval over seeds.
    least: what it must be able to reach, or it is excluded.
  """
  if effect.low == effect.high:
    same = "Every seed gave the same difference: only what the seeds change is noise here."
    return (REPRODUCED if effect.low > 0 else NOT_REPRODUCED), same
  if effect.above_zero:
    return REPRODUCED, "The whole interval is on the paper's side."
  if effect.below_zero:
    return NOT_REPRODUCED, "The whole interval is on the other side: the opposite was measured."
  if effect.high < least:
    return NOT_REPRODUCED, f"An effect of {least:.3g}, which would bear it out, is excluded."
  return INCONCLUSIVE, "The interval holds zero: the difference is within the noise of the seeds."


def check(claim) -> None:
  """UserError where a field that all claims have cannot be used."""
  for field in ("name", "paper", "where", "sentence"):
    if not getattr(claim, field):
      raise UserError(f"a claim has no {field}; say which paper says what, and where.")
  evaluation, dot, value = claim.metric.rpartition(".")
  if not (evaluation and dot and value):
    raise UserError(
      f"{claim.name}: metric={claim.metric!r} is not '<eval>.<value>'; write 'heldout.loss'."
    )
  if claim.seeds < 2:
    raise UserError(f"{claim.name}: seeds={claim.seeds} shows no noise; at least 2 do.")
