"""Measurements as totals with weights, so that adding them is exact and dividing comes last."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

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


Metrics = dict[str, Mean]


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
