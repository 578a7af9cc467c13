"""Measurements as totals with weights, so that adding them is exact and dividing comes last.

Most are means over examples (`Mean`). An F1 of all is one, too: of 2 * correct over given +
predicted. What is no mean keeps the counts that it follows from, adds these, and has a `mean()`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
  from jax import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mean:
  """The weighted mean of many values, kept as sums: it adds over microbatches, batches and hosts.

  Attributes:
    total: sum of weight * value.
    weight: sum of the weights.
    squares: sum of weight * value², from which the standard error of the mean follows.
  """

  total: Array | float
  weight: Array | float
  squares: Array | float = 0.0

  @classmethod
  def of(cls, values: Array, weights: Array | float = 1.0) -> Mean:
    """Sums `values` (any shape) under `weights` (the same shape, or one number for all)."""
    values = values.astype(jnp.float32)
    weights = jnp.broadcast_to(jnp.asarray(weights, jnp.float32), values.shape)
    weighted = values * weights
    return cls(jnp.sum(weighted), jnp.sum(weights), jnp.sum(weighted * values))

  def __add__(self, other: Mean) -> Mean:
    return Mean(self.total + other.total, self.weight + other.weight, self.squares + other.squares)

  def mean(self) -> Array | float:
    """total / weight; zero where nothing was weighed, so that an empty shard is no NaN."""
    return self.total / (self.weight + (self.weight == 0))

  def standard_error(self) -> float:
    """Of the mean, with the values taken as independent; NaN where squares were not kept."""
    weight, total, squares = float(self.weight), float(self.total), float(self.squares)
    if weight <= 1 or squares == 0:
      return math.nan
    variance = max(squares / weight - (total / weight) ** 2, 0.0)
    return math.sqrt(variance / (weight - 1))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MacroF1:
  """The mean F1 of the labels that occur: given or predicted, every label weighs the same.

  Attributes:
    correct, given, predicted: (C,) how often a label was found, was the true one, was said.
  """

  correct: Array
  given: Array
  predicted: Array

  @classmethod
  def of(cls, given_B: Array, predicted_B: Array, weights_B: Array, labels: int) -> MacroF1:
    """Counts labels (B,) under weights of 0 or 1."""
    given_BC = jax.nn.one_hot(given_B, labels) * weights_B[:, None]
    predicted_BC = jax.nn.one_hot(predicted_B, labels) * weights_B[:, None]
    return cls((given_BC * predicted_BC).sum(0), given_BC.sum(0), predicted_BC.sum(0))

  def __add__(self, other: MacroF1) -> MacroF1:
    return jax.tree.map(lambda a, b: a + b, self, other)

  def mean(self) -> Array | float:
    """Zero where nothing was counted."""
    both = self.given + self.predicted
    occur = both > 0
    return (2 * self.correct / (both + ~occur)).sum() / (occur.sum() + (occur.sum() == 0))

  def standard_error(self) -> float:
    """Not known: it is no mean over examples."""
    return math.nan


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CalibrationError:
  """How far confidence is from accuracy, on average over bins of equal width (Guo et al., 2017).

  Attributes:
    excess: (bins,) sum of confidence - correctness of the predictions in a bin.
    weight: how many predictions there are.
  """

  excess: Array
  weight: Array

  @classmethod
  def of(cls, confidence_B: Array, correct_B: Array, weights_B: Array, bins: int = 15):
    """Of predictions (B,); a bin holds its upper edge, as in the paper, section 2."""
    bin_B = jnp.clip(jnp.ceil(confidence_B * bins).astype(jnp.int32) - 1, 0, bins - 1)
    excess_B = (confidence_B - correct_B) * weights_B
    return cls((jax.nn.one_hot(bin_B, bins) * excess_B[:, None]).sum(0), weights_B.sum())

  def __add__(self, other: CalibrationError) -> CalibrationError:
    return jax.tree.map(lambda a, b: a + b, self, other)

  def mean(self) -> Array | float:
    """Zero where nothing was counted."""
    return abs(self.excess).sum() / (self.weight + (self.weight == 0))

  def standard_error(self) -> float:
    """Not known: it is no mean over examples."""
    return math.nan


RESAMPLED, AT_ONCE = 1_000, 100  # bootstrap samples, and of these at a time


@dataclasses.dataclass(frozen=True)
class Sample:
  """Single values, kept on the host, whose mean is told with an interval and beside chance.

  The interval is the bootstrap's (Efron, 1979): the middle 95 % of the means of samples drawn again
  from the values; values of one group, such as the captions of one picture, are drawn together.

  Attributes:
    values: (n,).
    chance: what a guess has on average.
    groups: (n,) numbers from 0; None where every value is by itself.
  """

  values: np.ndarray
  chance: float
  groups: np.ndarray | None = None

  def mean(self) -> float:
    """Zero where nothing was counted."""
    return float(np.mean(self.values)) if len(self.values) else 0.0

  def standard_error(self) -> float:
    """The deviation of the means of the samples that are drawn again."""
    return float(np.std(self._means())) if len(self.values) > 1 else math.nan

  def interval(self) -> tuple[float, float]:
    """95 %."""
    low, high = np.percentile(self._means(), [2.5, 97.5])
    return float(low), float(high)

  def _means(self) -> np.ndarray:
    groups = np.arange(len(self.values)) if self.groups is None else self.groups
    totals = np.bincount(groups, self.values)
    counts = np.bincount(groups).astype(float)
    there = np.flatnonzero(counts)
    totals, counts = totals[there], counts[there]
    random = np.random.RandomState(0)
    drawn = []
    for _ in range(RESAMPLED // AT_ONCE):
      often = random.multinomial(len(there), np.full(len(there), 1 / len(there)), AT_ONCE)
      drawn.append(often @ totals / (often @ counts))
    return np.concatenate(drawn)


# Whatever has a mean() in the end; all but a Sample, which is measured in one go, add up exactly.
Measure = Mean | MacroF1 | CalibrationError | Sample
Metrics = dict[str, Measure]


def add(a: Metrics, b: Metrics) -> Metrics:
  """Adds two measurements of the same things."""
  return {name: a[name] + b[name] for name in a}


def means(metrics: Metrics) -> dict[str, float]:
  """The numbers to show: every mean, and the perplexity exp(loss per token) where one is defined.

  Perplexity exists where the loss is in nats per token, which the objective says by measuring
  "nats" (the loss without smoothing or penalties).
  """
  values = {name: float(mean.mean()) for name, mean in metrics.items()}
  if "nats" in values:
    values["perplexity"] = math.exp(min(values["nats"], 700.0))
  return values


def standard_errors(metrics: Metrics) -> dict[str, float]:
  """The standard error of every mean that has one."""
  errors = {name: mean.standard_error() for name, mean in metrics.items()}
  return {name: error for name, error in errors.items() if math.isfinite(error)}


def particulars(metrics: Metrics) -> dict[str, dict[str, Any]]:
  """Of samples: "n", what is "chance", and the "interval" of 95 %, by the name of the measure."""
  samples = {name: x for name, x in metrics.items() if isinstance(x, Sample) and len(x.values)}
  if not samples:
    return {}
  return {
    "n": {name: len(x.values) for name, x in samples.items()},
    "chance": {name: x.chance for name, x in samples.items()},
    "interval": {name: list(x.interval()) for name, x in samples.items()},
  }
