"""The gradient of a batch, in one piece or in microbatches, with the randomness of its step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from research import metrics, optim
from research.experiment import Experiment


def of(
  experiment: Experiment, params: Any, batch: dict[str, jax.Array], key: jax.Array
) -> tuple[Any, metrics.Metrics]:
  """Of a batch's mean loss by what is trained, None in the place of the frozen; and its Metrics."""
  objective, n = experiment.objective, experiment.microbatches
  if n > 1 and getattr(objective, "cut", None):  # a loss that compares examples does not add up
    objective, n = objective.cut(n), 1
  score, known = nn.apply(objective, experiment.model), plain(experiment)
  trained = groups(experiment).trained(params)

  def total_loss(trained, batch, key):
    whole = known(optim.merge(trained, params))
    measured = score({"params": whole}, batch, rngs={"dropout": key})
    return measured["loss"].total, measured

  of_totals = jax.grad(total_loss, has_aux=True)
  if n == 1:
    grads, measured = of_totals(trained, batch, key)
  else:
    grads, measured = _accumulate(of_totals, trained, batch, key, n)
  weight = measured["loss"].weight
  return jax.tree.map(lambda g: g / (weight + (weight == 0)), grads), measured


def randomness(experiment: Experiment, step: jax.Array, key: jax.Array | None = None) -> jax.Array:
  """The key of update `step`, counted from 0; `key` is that of the seed, where it is another."""
  return jax.random.fold_in(jax.random.key(experiment.seed) if key is None else key, step)


def pieces(batch: Any, key: jax.Array, n: int) -> tuple[Any, jax.Array]:
  """The n microbatches of a batch with their keys, both stacked: row r is in the (r mod n)-th.

  So each device keeps its own examples.
  """
  cut = jax.tree.map(lambda x: x.reshape(-1, n, *x.shape[1:]).swapaxes(0, 1), batch)
  return cut, jax.random.split(key, n)


def _accumulate(gradient, params, batch, key, n):
  """Sums gradients and totals over n microbatches."""
  stacked = pieces(batch, key, n)

  def body(carry, piece):
    return jax.tree.map(jnp.add, carry, gradient(params, *piece)), None

  first = jax.tree.map(lambda x: x[0], stacked)
  shapes = jax.eval_shape(gradient, params, *first)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return jax.lax.scan(body, zeros, stacked)[0]


def plain(experiment: Experiment) -> Callable[[Any], Any]:
  """The parameters of a state -> those that the model knows; without adapters the same."""
  return (lambda params: params) if experiment.adapters is None else experiment.adapters.merged


def groups(experiment: Experiment) -> optim.Groups:
  """Which parameters are treated apart."""
  return getattr(experiment.optimizer, "groups", optim.USUAL)
