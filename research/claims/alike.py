"""Two arms come to the same: what a table says with two figures that nearly agree."""

from __future__ import annotations

import dataclasses
import math

from research import statistics
from research.claims.outcomes import Lacking, Results
from research.claims.verdict import Judged, Verdict, decide_within, inconclusive
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Alike(Judged):
  """Two arms differ by no more than a tolerance, on average over seeds.

  That no difference was found says little, for it may hide in the noise. This is reproduced when
  the whole interval of the paired differences lies within the tolerance, and not reproduced when
  all of it lies outside: two one-sided tests (Schuirmann, 1987) at the level of the interval.

  Attributes:
    one, other: names of arms.
    numbers: the paper's figures, (one, other), or nothing.
    within: the tolerance, as a share of the metric of `one`: the least that would matter.
    unit: as of `Claim`.
  """

  one: str
  other: str
  numbers: tuple[float, ...] = ()
  _: dataclasses.KW_ONLY
  within: float
  unit: str = ""

  def __post_init__(self):
    super().__post_init__()
    if len(self.numbers) not in (0, 2):
      raise UserError(f"{self.name}: numbers={self.numbers} must be (one, other), or nothing.")
    if self.numbers and not self.numbers[0] > 0:
      raise UserError(f"{self.name}: numbers={self.numbers}; of what is not above 0 is no share.")
    if not self.within > 0:
      raise UserError(f"{self.name}: within={self.within} is no tolerance; give more than 0.")

  def arms(self) -> tuple[str, ...]:
    """The arms that it needs."""
    return self.one, self.other

  def judge(self, results: Results) -> Verdict:
    """What the runs say; `INCONCLUSIVE` with the reason where some are missing or failed."""
    known = {
      "means": f"{self.metric} of {self.other} over that of {self.one}, less 1",
      "asked": (-self.within, self.within),
      "paper": self.numbers[1] / self.numbers[0] - 1 if self.numbers else math.nan,
      "unit": self.unit,
    }
    try:
      table = results.table(self.arms(), self.metric, self.seeds)
      if not (table[:, 0] > 0).all():
        raise Lacking(f"{self.metric} of {self.one} is not above 0 in every seed; it has no shares")
    except Lacking as error:
      return inconclusive(error, **known)
    pairs = table[:, 1] / table[:, 0] - 1
    effect = statistics.mean(pairs)
    return Verdict(
      *decide_within(effect, self.within, "difference", f"{100 * self.within:g} %"),
      effect=effect,
      detectable=statistics.detectable(statistics.deviation(pairs), effect.n),
      pairs=tuple(map(float, pairs)),
      **known,
    )
