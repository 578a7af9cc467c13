"""Power laws of the loss in the size of a model and of its data, fitted to runs.

Logarithms are fitted with Huber's loss, so that a run that went wrong does not bend the law, from a
grid of starts, of which the best end counts: Hoffmann et al. (2022), section 3.3 and appendix D.2.
They descended by L-BFGS, which stops long before the bottom of this narrow valley (Besiroglu et al.
2024 found it in the published fit); SciPy's robust least squares, of the same loss, goes there in a
few steps.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Literal

import numpy as np
from scipy import special

from research.errors import UserError

HUBER = 1e-3  # error of a log loss from which on it counts linearly (Hoffmann et al.)
NUMBERS = 5  # of Chinchilla's law
_STEEPEST = 5.0  # bound of an exponent: where the data does not fix one, it would run away
_FAINTEST = 12.0  # a term less than e^-12 of the loss is none
_TRIES = 300  # evaluations from one start; from a good one it takes some twenty


@dataclasses.dataclass(frozen=True)
class Chinchilla:
  """loss = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, equation 2).

  Attributes:
    E: what no model gets below, in the unit of the loss.
    A, alpha: what a model of N parameters lacks.
    B, beta: what D tokens lack.
  """

  E: float
  A: float
  alpha: float
  B: float
  beta: float

  def loss(self, parameters: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Predicted for arrays of one shape."""
    return self.E + self.A / parameters**self.alpha + self.B / tokens**self.beta

  def __str__(self) -> str:
    return (
      f"{self.E:.3g} + {self.A:.3g} / N^{self.alpha:.3g} + {self.B:.3g} / D^{self.beta:.3g}, "
      "N parameters, D tokens"
    )


@dataclasses.dataclass(frozen=True)
class Kaplan:
  """loss = (S / x)^alpha, in one size x alone (Kaplan et al. 2020, equations 1.1 and 1.2).

  Attributes:
    S: the size at which the law gives a loss of 1.
    alpha: its exponent.
    of: what x is, "parameters" or "tokens".
  """

  S: float
  alpha: float
  of: Literal["parameters", "tokens"]

  def loss(self, parameters: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Predicted for arrays of one shape, of which one is not looked at."""
    return (self.S / (parameters if self.of == "parameters" else tokens)) ** self.alpha

  def __str__(self) -> str:
    letter = "N" if self.of == "parameters" else "D"
    return f"({self.S:.3g} / {letter})^{self.alpha:.3g}, {letter} {self.of}"


Law = Chinchilla | Kaplan


def fit(
  parameters: np.ndarray, tokens: np.ndarray, loss: np.ndarray, near: Law | None = None
) -> Law:
  """The law nearest to runs: Chinchilla's, or where only one of the sizes differs, Kaplan's in it.

  Args:
    parameters, tokens, loss: (runs,).
    near: the law of about these runs; then no grid is searched.

  Raises:
    UserError: sizes that do not fix a law, or losses that are not above zero.
  """
  loss = np.asarray(loss, float)
  if not (np.isfinite(loss) & (loss > 0)).all():
    raise UserError("a loss is not above zero and finite; a power law is of those.")
  sizes, amounts = len(np.unique(parameters)), len(np.unique(tokens))
  if sizes == 1 and amounts > 1:
    return _kaplan(np.log(tokens), np.log(loss), "tokens")
  if amounts == 1 and sizes > 1:
    return _kaplan(np.log(parameters), np.log(loss), "parameters")
  if min(sizes, amounts) < 3:
    raise UserError(
      f"{sizes} sizes of models and {amounts} amounts of data do not fix a law; it takes three of "
      "each, or several of one and one of the other."
    )
  points = np.unique(np.stack([parameters, tokens]), axis=1).shape[1]
  if points < NUMBERS:
    raise UserError(
      f"{points} pairs of a size and an amount do not fix the {NUMBERS} numbers of the law; run "
      f"at least {NUMBERS}, not all of which have one ratio."
    )
  return _chinchilla(np.log(parameters), np.log(tokens), np.log(loss), near)


def _chinchilla(n, d, target, near: Chinchilla | None) -> Chinchilla:
  # Around the middle of the data, the terms are of the size of the loss whatever the exponent.
  middle = np.array([n.mean(), d.mean()])
  n, d = n - middle[0], d - middle[1]

  def terms(x: np.ndarray) -> np.ndarray:
    e, a, alpha, b, beta = x
    return np.stack([np.full_like(n, e), a - alpha * n, b - beta * d])

  def slopes(x: np.ndarray) -> np.ndarray:
    E, A, B = special.softmax(terms(x), axis=0)
    return np.stack([E, A, -n * A, B, -d * B], axis=1)

  low = target.min()
  starts = [
    (low + np.log(1 - a - b), low + np.log(a), alpha, low + np.log(b), beta)
    for a, b in ((0.1, 0.1), (0.3, 0.3))
    for alpha, beta in itertools.product((0.2, 0.7), repeat=2)
  ]
  if near is not None:
    a, b = np.log((near.A, near.B)) - np.array((near.alpha, near.beta)) * middle
    starts = [(np.log(near.E), a, near.alpha, b, near.beta)]
  size, exponent = (low - _FAINTEST, target.max() + 1.0), (0.0, _STEEPEST)
  e, a, alpha, b, beta = _lowest(
    lambda x: special.logsumexp(terms(x), axis=0) - target,
    slopes,
    starts,
    [size, size, exponent, size, exponent],
  )
  A, B = np.exp(np.array((a, b)) + np.array((alpha, beta)) * middle)
  return Chinchilla(float(np.exp(e)), float(A), float(alpha), float(B), float(beta))


def _kaplan(x, target, of: str) -> Kaplan:
  middle = x.mean()
  x = x - middle
  height, alpha = _lowest(
    lambda line: line[0] - line[1] * x - target,
    lambda _: np.stack([np.ones_like(x), -x], axis=1),
    [(target.mean(), -(x @ target) / (x @ x))],
    [(-np.inf, np.inf)] * 2,
  )
  with np.errstate(all="ignore"):
    S = float(np.exp(middle + height / alpha))
  if not 0 < S < np.inf:  # so flat a line reaches a loss of 1 at no size
    raise UserError(f"the loss hardly changes with the {of}; there is no power law in it.")
  return Kaplan(S, float(alpha), of)


def _lowest(errors, slopes, starts, bounds) -> np.ndarray:
  """The best end of robust least squares from each of the starts."""
  from scipy import optimize  # it takes a second to import

  low, high = np.array(bounds).T
  ends = [
    optimize.least_squares(
      errors,
      np.clip(x, low + 1e-6, high - 1e-6),
      slopes,
      bounds=(low, high),
      loss="huber",
      f_scale=HUBER,
      x_scale="jac",
      max_nfev=_TRIES,
    )
    for x in starts
  ]
  return min(ends, key=lambda end: end.cost).x
