"""Two curves cross: what wins on little data, or in a small model, loses on more."""

from __future__ import annotations

import dataclasses
import math
import os

import numpy as np

from research import statistics
from research.claims.outcomes import Lacking, Results
from research.claims.verdict import (
  INCONCLUSIVE,
  NOT_REPRODUCED,
  REPRODUCED,
  Judged,
  Line,
  Verdict,
  decide,
  inconclusive,
)
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Crossing(Judged):
  """One kind of arm is better at the small end of a scale, another at its large end.

  Both must hold over the noise of the seeds. The effect is the lead that decides, the lesser one
  where both do, in the mean over seeds; where the curves cross is read off between the arms, over
  the logarithm of the scale.

  Attributes:
    first, then: names of the arms of the two kinds, as many as there are places on the scale;
      `first` leads at the small end.
    at: the places, ascending and above 0: tokens, parameters, examples.
    scale: what they count.
    numbers: where the curves of the paper cross, or nothing.
  """

  _: dataclasses.KW_ONLY
  first: tuple[str, ...]
  then: tuple[str, ...]
  at: tuple[float, ...]
  scale: str
  numbers: tuple[float, ...] = ()

  def __post_init__(self):
    super().__post_init__()
    if not len(self.first) == len(self.then) == len(self.at) >= 2:
      raise UserError(
        f"{self.name}: {len(self.first)} arms first, {len(self.then)} then, {len(self.at)} places; "
        "give as many of each, and at least two."
      )
    if min(self.at) <= 0 or list(self.at) != sorted(set(self.at)):
      raise UserError(f"{self.name}: at={self.at} must ascend, from above 0.")
    if len(self.numbers) > 1:
      raise UserError(f"{self.name}: numbers={self.numbers} must be where they cross, or nothing.")

  def arms(self) -> tuple[str, ...]:
    """The arms that it needs."""
    return self.first + self.then

  def judge(self, results: Results) -> Verdict:
    """What the runs say; `INCONCLUSIVE` with the reason where some are missing or failed."""
    sign = 1 if self.lower else -1
    means = f"lead in {self.metric} of {self.first[0]} at {self.at[0]:,g} {self.scale}, "
    means += f"and of {self.then[-1]} at {self.at[-1]:,g}, whichever decides"
    try:
      table = sign * results.table(self.arms(), self.metric, self.seeds)
    except Lacking as error:
      return inconclusive(error, means=means)
    # How far `then` is behind, at each place: it falls through zero.
    behind = table[:, len(self.at) :] - table[:, : len(self.at)]
    ends = statistics.mean(behind[:, 0]), statistics.mean(-behind[:, -1])
    verdicts = [decide(end) for end in ends]
    outcomes = {outcome for outcome, _ in verdicts}
    outcome = next(o for o in (NOT_REPRODUCED, INCONCLUSIVE, REPRODUCED) if o in outcomes)
    places = [f"At {x:,g}: " for x in (self.at[0], self.at[-1])]
    reason = " ".join(
      place + said
      for place, (found, said) in zip(places, verdicts, strict=True)
      if found == outcome
    )
    deciding = [i for i, (found, _) in enumerate(verdicts) if found == outcome]
    end = min(deciding, key=lambda i: ends[i].estimate)
    pairs = (behind[:, 0], -behind[:, -1])[end]
    return Verdict(
      outcome,
      reason,
      means=means,
      effect=ends[end],
      detectable=statistics.detectable(statistics.deviation(pairs), len(pairs)),
      pairs=tuple(map(float, pairs)),
      facts=self._place(behind),
      lines=self._lines(sign * table),
      across=self.scale,
    )

  def _lines(self, table: np.ndarray) -> tuple[Line, ...]:
    """The two curves of means, with the points of all seeds."""
    lines = []
    for arms, values in zip((self.first, self.then), np.split(table, 2, axis=1), strict=True):
      points = [(x, float(y)) for row in values for x, y in zip(self.at, row, strict=True)]
      path = zip(self.at, values.mean(0).tolist(), strict=True)
      lines.append(Line(_shared(arms), tuple(path), tuple(points)))
    return tuple(lines)

  def _place(self, behind: np.ndarray) -> tuple[tuple[str, str], ...]:
    """Where they cross, where they do in every resample of the seeds."""
    found = statistics.interval(
      lambda chosen: _root(np.log(self.at), behind[chosen].mean(0)), len(behind)
    )
    paper = f"; in the paper {self.numbers[0]:,.3g}" if self.numbers else ""
    if not math.isfinite(found.estimate):
      return (("crossing", f"none between {self.at[0]:,g} and {self.at[-1]:,g}{paper}"),)
    words = f"{math.exp(found.estimate):,.3g} {self.scale}"
    if math.isfinite(found.low):  # it is cut at the ends: nothing was measured beyond
      ends = np.exp(np.clip((found.low, found.high), *np.log((self.at[0], self.at[-1]))))
      words += f" ({ends[0]:,.3g} to {ends[1]:,.3g})"
    return (("crossing", words + paper),)


def _root(places: np.ndarray, values: np.ndarray) -> float:
  """Where the straight lines through `values` last fall through zero; NaN where they do not."""
  falls = np.flatnonzero((values[:-1] > 0) & (values[1:] <= 0))
  if not len(falls):
    return math.nan
  i = falls[-1]
  share = values[i] / (values[i] - values[i + 1])
  return float(places[i] + share * (places[i + 1] - places[i]))


def _shared(names: tuple[str, ...]) -> str:
  """What the names of a curve's arms begin with, or the first."""
  letters = os.path.commonprefix(names)  # noqa: RUF071 (of letters, not of folders)
  return letters.rstrip("_-.0123456789") or names[0]
