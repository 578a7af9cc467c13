"""What a linear layer makes of the vectors of pictures, given examples of the classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
import scipy.special

from research.errors import UserError
from research.matching import encoded, ranks
from research.matching.zero_shot import Labelled, check_labels, labelled
from research.metrics import Metrics, Sample

DRAWS = 3  # of examples, whose results are averaged
STEPS, FLAT = 1_000, 1e-6  # of a descent at most, and the gradient where it ends


@dataclasses.dataclass(frozen=True)
class FewShot:
  """Accuracy of ridge regression on a few examples of each class (ViT, section 4.1).

  Attributes:
    classes: how many there are.
    shots: numbers of examples of each class.
    strength: of the ridge.
    pictures, every, split, rows: as of `ZeroShot`.
    examples: of "train" that are looked through, and of the split that are classified, at most.
    seed: of what is drawn; each number of shots is drawn three times.
  """

  classes: int
  shots: tuple[int, ...] = (1, 5, 10)
  strength: float = 1.0
  pictures: Any = None
  examples: int | None = 10_000
  every: int | None = None
  split: str = "heldout"
  rows: int = encoded.ROWS
  seed: int = 0

  def __post_init__(self):
    if not self.shots or min(self.shots) < 1:
      raise UserError(f"shots={self.shots} are numbers of examples, such as (1, 5, 10).")
    check_strength(self.strength)

  def total(
    self, model: Any, params: Any, dataset: Any, stopping: Callable[[], bool] = lambda: False
  ) -> Metrics | None:
    """shots_k, the accuracy after k examples of each class; arguments as of `Retrieval.total`."""
    found = _both(self, model, params, dataset, stopping)
    if found is None:
      return None
    seen, told = found
    metrics: Metrics = {}
    for shots in self.shots:
      hits = np.zeros(len(told.label_B))
      for draw in range(DRAWS):
        chosen = few(seen.label_B, self.classes, shots, np.random.RandomState([self.seed, draw]))
        examples = seen.vectors_BE[chosen], seen.label_B[chosen]
        hits += _hits(told, *ridge(*examples, self.classes, self.strength)) / DRAWS
      metrics[f"shots_{shots}"] = Sample(hits, 1 / self.classes, told.picture_B)
    return metrics


@dataclasses.dataclass(frozen=True)
class LinearProbe:
  """Accuracy of logistic regression on the pictures of "train" (CLIP, section 3.2).

  Attributes:
    classes: how many there are.
    strength: of the penalty, half of it times the squared weights is added to the mean loss.
    pictures, examples, every, split, rows: as of `FewShot`.
  """

  classes: int
  strength: float = 1e-3
  pictures: Any = None
  examples: int | None = 10_000
  every: int | None = None
  split: str = "heldout"
  rows: int = encoded.ROWS

  def __post_init__(self):
    check_strength(self.strength)

  def total(
    self, model: Any, params: Any, dataset: Any, stopping: Callable[[], bool] = lambda: False
  ) -> Metrics | None:
    """accuracy, as a sample over the pictures; arguments as of `Retrieval.total`."""
    found = _both(self, model, params, dataset, stopping)
    if found is None:
      return None
    seen, told = found
    fitted = logistic(seen.vectors_BE, seen.label_B, self.classes, self.strength)
    return {"accuracy": Sample(_hits(told, *fitted), 1 / self.classes, told.picture_B)}


def ridge(
  vectors_NE: np.ndarray, label_N: np.ndarray, classes: int, strength: float
) -> tuple[np.ndarray, np.ndarray]:
  """Weights (E, C) and bias (C,) of the least squares to 1 for the class and -1 for others."""
  x_NE, targets_NC = vectors_NE.astype(np.float64), 2.0 * np.eye(classes)[label_N] - 1.0
  mean_E, mean_C = x_NE.mean(0), targets_NC.mean(0)
  x_NE, targets_NC = x_NE - mean_E, targets_NC - mean_C
  N, E = x_NE.shape
  if N < E:  # the smaller of two systems with the same solution
    weights_EC = x_NE.T @ np.linalg.solve(x_NE @ x_NE.T + strength * np.eye(N), targets_NC)
  else:
    weights_EC = np.linalg.solve(x_NE.T @ x_NE + strength * np.eye(E), x_NE.T @ targets_NC)
  return weights_EC, mean_C - mean_E @ weights_EC


def logistic(
  vectors_NE: np.ndarray, label_N: np.ndarray, classes: int, strength: float
) -> tuple[np.ndarray, np.ndarray]:
  """Weights (E, C) and bias (C,) of the least cross-entropy, by L-BFGS as in CLIP's section 3.2."""
  N = len(label_N)
  x_NE = np.concatenate([vectors_NE, np.ones((N, 1))], axis=1).astype(np.float64)  # and the bias
  penalty_E1 = np.append(np.full(x_NE.shape[1] - 1, strength), 0.0)[:, None]
  right_NC = np.eye(classes)[label_N]

  def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
    weights_EC = flat.reshape(-1, classes)
    log_p_NC = scipy.special.log_softmax(x_NE @ weights_EC, axis=1)
    gradient_EC = x_NE.T @ (np.exp(log_p_NC) - right_NC) / N + penalty_E1 * weights_EC
    nats = -np.sum(log_p_NC * right_NC) / N
    return nats + np.sum(penalty_E1 * weights_EC**2) / 2, gradient_EC.ravel()

  begin = np.zeros(x_NE.shape[1] * classes)
  limits = {"maxiter": STEPS, "maxfun": 2 * STEPS, "gtol": FLAT, "ftol": 0.0}
  found = scipy.optimize.minimize(loss, begin, jac=True, method="L-BFGS-B", options=limits)
  weights_EC = found.x.reshape(-1, classes)
  return weights_EC[:-1], weights_EC[-1]


def few(label_N: np.ndarray, classes: int, shots: int, random: np.random.RandomState) -> np.ndarray:
  """The places of so many examples of each class, drawn at random.

  Raises:
    UserError: a class has fewer.
  """
  places = []
  for label in range(classes):
    there = np.flatnonzero(label_N == label)
    if len(there) < shots:
      raise UserError(
        f"class {label} has {len(there)} examples to learn from, and shots={shots} are wanted; "
        "choose fewer, or look through more of them."
      )
    places.append(random.permutation(there)[:shots])
  return np.concatenate(places)


def check_strength(strength: float) -> None:
  """UserError where it is not above 0, so that there would be no one solution."""
  if not strength > 0:
    raise UserError(f"strength={strength} must be above 0.")


def _both(probe: Any, model: Any, params: Any, dataset: Any, stopping: Callable[[], bool]):
  """The vectors and classes to learn from, and those to be told; None where stopped."""
  encoder = encoded.Encoder(model, params, probe.rows)
  found = []
  for split in ("train", probe.split):
    source = (probe.pictures or dataset).source(split)
    part = labelled(encoder, source, probe.examples, stopping)
    if part is None:
      return None
    check_labels(part.label_B, probe.classes)
    found.append(part)
  return found


def _hits(told: Labelled, weights_EC: np.ndarray, bias_C: np.ndarray) -> np.ndarray:
  logits_BC = told.vectors_BE @ weights_EC + bias_C
  right_BC = np.eye(len(bias_C), dtype=bool)[told.label_B]
  return ranks.hits(logits_BC, right_BC, (1,))[:, 0]
