"""One arm is better than another: the sentence that most tables of papers are made of."""

from __future__ import annotations

import dataclasses
import math

from research import statistics
from research.claims.outcomes import Lacking, Results
from research.claims.verdict import Judged, Verdict, decide, inconclusive
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Claim(Judged):
  """One arm is better than another, on average over seeds.

  It is reproduced when the whole interval of the paired differences is on the paper's side, and
  not reproduced when all of it is on the other side, or too low for an effect that would bear the
  paper out. An interval around zero that still has room for one decides nothing; more seeds or
  longer runs would. What the claims of a file share, it says once:

    says = functools.partial(Claim, paper="Xiong et al., 2020", where="figure 2", metric="dev.loss")

  Attributes:
    better, worse: names of arms.
    numbers: the paper's figures, (better, worse), or nothing.
    unit: of the paper's figures where it is not the metric's own ("BLEU" beside a loss): they are
      then shown, and not compared, and may be better where they are larger.
    least: the smallest effect that would bear the paper out, in the metric's unit: of less, also
      what is surely above zero counts as not reproduced. Left out, any effect will do that is
      surely above zero; around zero the paper's own is looked for, where it has the same unit.
  """

  better: str
  worse: str
  numbers: tuple[float, ...] = ()
  _: dataclasses.KW_ONLY
  unit: str = ""
  least: float | None = None

  def __post_init__(self):
    super().__post_init__()
    if len(self.numbers) not in (0, 2):
      raise UserError(f"{self.name}: numbers={self.numbers} must be (better, worse), or nothing.")
    if self.numbers and not self.unit and not self._papers() > 0:
      raise UserError(
        f"{self.name}: by numbers={self.numbers} and lower={self.lower} {self.worse} is better in "
        "the paper; give the figures as (better, worse)."
      )
    if self.least is not None and self.least < 0:
      raise UserError(f"{self.name}: least={self.least} is a size, and must not be below 0.")

  def arms(self) -> tuple[str, ...]:
    """The arms that it needs."""
    return self.better, self.worse

  def judge(self, results: Results) -> Verdict:
    """What the runs say; `INCONCLUSIVE` with the reason where some are missing or failed."""
    sign = 1 if self.lower else -1
    paper = self._papers()
    side = "below" if self.lower else "above"
    known = {
      "means": f"{self.metric} of {self.better} {side} that of {self.worse}",
      "paper": paper,
      "unit": self.unit,
    }
    try:
      table = results.table(self.arms(), self.metric, self.seeds)
    except Lacking as error:
      return inconclusive(error, **known)
    pairs = sign * (table[:, 1] - table[:, 0])
    effect = statistics.mean(pairs)
    looked_for = paper if self.least is None and self.numbers and not self.unit else 0.0
    return Verdict(
      *decide(effect, self.least or 0.0, looked_for),
      effect=effect,
      detectable=statistics.detectable(statistics.deviation(pairs), effect.n),
      pairs=tuple(map(float, pairs)),
      **known,
    )

  def _papers(self) -> float:
    """The effect in the paper, NaN where it gives none; of another unit, only its size is known."""
    if not self.numbers:
      return math.nan
    better, worse = self.numbers
    if self.unit:
      return abs(better - worse)
    return worse - better if self.lower else better - worse
