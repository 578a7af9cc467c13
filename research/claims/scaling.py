"""Small runs foretell a large one: a power law is fitted to some arms, and one is held back."""

from __future__ import annotations

import dataclasses

import numpy as np

from research import power_laws, statistics
from research.claims.outcomes import Lacking, Results
from research.claims.verdict import Judged, Line, Verdict, decide_within, inconclusive
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class ScalingLaw(Judged):
  """A power law, fitted to small runs, predicts the loss of a larger one that it has not seen.

  Where both sizes and amounts of data differ between the fitted arms it is Chinchilla's law, where
  only one of them does, Kaplan's in that one. Sizes are all of a model's parameters, and data the
  tokens seen in training. The effect is the relative error of the prediction; its interval comes of
  fitting the law again to resamples of the seeds, and must lie within the tolerance.

  Attributes:
    fitted: names of the arms that the law is fitted to.
    held_back: the arm that it predicts.
    metric: a loss, in which less is better.
    within: relative error up to which a prediction counts as right.
    numbers: the paper's exponents, (alpha, beta) or (alpha,), or nothing.
  """

  _: dataclasses.KW_ONLY
  fitted: tuple[str, ...]
  held_back: str
  within: float
  numbers: tuple[float, ...] = ()
  lower: bool = dataclasses.field(default=True, init=False)

  def __post_init__(self):
    super().__post_init__()
    if not 0 < self.within < 1:
      raise UserError(f"{self.name}: within={self.within} is a share; it lies between 0 and 1.")
    if len(self.numbers) > 2:
      raise UserError(f"{self.name}: numbers={self.numbers} must be (alpha, beta), or (alpha,).")

  def arms(self) -> tuple[str, ...]:
    """The arms that it needs."""
    return (*self.fitted, self.held_back)

  def judge(self, results: Results) -> Verdict:
    """What the runs say; `INCONCLUSIVE` with the reason where some are missing or failed."""
    known = {
      "means": f"predicted {self.metric} of {self.held_back} over the measured one, less 1",
      "asked": (-self.within, self.within),
    }
    try:
      losses = results.table(self.arms(), self.metric, self.seeds)
      N, D = (results.sizes(self.arms(), what, self.seeds) for what in ("parameters", "tokens"))
      law = power_laws.fit(*(x[:, :-1].ravel() for x in (N, D, losses)))
      if isinstance(law, power_laws.Kaplan):
        other, sizes = ("tokens", D) if law.of == "parameters" else ("parameters", N)
        if len(np.unique(sizes)) > 1:
          raise Lacking(f"The law says nothing of {other}, in which {self.held_back} differs")

      def error(chosen: np.ndarray) -> float:
        small = (x[chosen, :-1].ravel() for x in (N, D, losses))
        predicted = power_laws.fit(*small, near=law).loss(N[0, -1], D[0, -1])
        return float(predicted / losses[chosen, -1].mean() - 1)

      effect = statistics.interval(error, len(losses))
    except Lacking as lacking:
      return inconclusive(lacking, **known)
    except UserError as unfit:
      return inconclusive(Lacking(str(unfit)), **known)
    tolerance = f"{100 * self.within:g} %"
    outcome, reason = decide_within(effect, self.within, "error of the prediction", tolerance)
    facts = [
      ("law", str(law)),
      ("predicted", f"{law.loss(N[0, -1], D[0, -1]):.4g}"),
      ("measured", f"{losses[:, -1].mean():.4g}"),
    ]
    if self.numbers:
      facts.append(("exponents in the paper", ", ".join(f"{number:g}" for number in self.numbers)))
    across = "tokens" if len(np.unique(N)) == 1 else "parameters"
    lines = _lines(law, N, D, losses, across)
    return Verdict(
      outcome, reason, effect=effect, facts=tuple(facts), lines=lines, across=across, **known
    )


def _lines(
  law: power_laws.Law, N: np.ndarray, D: np.ndarray, losses: np.ndarray, across: str
) -> tuple[Line, ...]:
  """The law beside what was measured, the held-back arm among it; a line for each other size."""
  x, other = (N, D) if across == "parameters" else (D, N)
  reach = np.geomspace(x.min(), x.max(), 30)
  lines = []
  for size in np.unique(other):
    there = other == size
    sizes = (reach, np.full_like(reach, size))
    predicted = law.loss(*(sizes if across == "parameters" else sizes[::-1]))
    name = f"{_short(size)} tokens" if across == "parameters" else "the law"
    path = zip(reach.tolist(), predicted.tolist(), strict=True)
    points = zip(x[there].tolist(), losses[there].tolist(), strict=True)
    lines.append(Line(name, tuple(path), tuple(points)))
  return tuple(lines)


def _short(count: float) -> str:
  """1.5k, 20M, 300G."""
  thousands = min(max(int(np.log10(count) // 3), 0), 4)
  return f"{count / 1000**thousands:.3g}{' kMGT'[thousands]}".strip()
