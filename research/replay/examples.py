"""What each example of a batch did: its loss, and its share of the gradient, layer by layer.

The batch's gradient is a sum over examples. Each one's part of it is made by itself, with the
randomness that it had in the batch: of an example that does not know the others, with padding in
their place; of one whose loss compares it with the others, with weights that leave them there and
count only its own row.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

from research import gradient as gradients
from research import sharding, update
from research.experiment import Experiment
from research.log.progress import counted
from research.nn.pipeline import STAGE
from research.stacking import unstack

THERE = 1e-30  # a weight that is no padding, and is nothing beside one


@dataclasses.dataclass(frozen=True)
class Examples:
  """What the B examples of a batch did.

  Attributes:
    loss: (B,) mean of each.
    weight: (B,) what it counts in the batch's mean, such as its tokens.
    norms: (B, G) norm of its part of the batch's gradient, by group of parameters.
    share: (B,) of the batch's gradient: its part along the whole, over the whole's square. They add
      up to one.
    batch_norms: (G,) of the whole gradient.
    groups: names of the groups: layers, and what is in none.
    batch_loss: of the whole batch.
  """

  loss: np.ndarray
  weight: np.ndarray
  norms: np.ndarray
  share: np.ndarray
  batch_norms: np.ndarray
  groups: tuple[str, ...]
  batch_loss: float

  @property
  def norm(self) -> np.ndarray:
    """(B,) of each one's part of the gradient, before it is clipped."""
    return np.sqrt((self.norms**2).sum(1))

  def ranked(self) -> np.ndarray:
    """(B,) from the one that did most; what is not finite comes first."""
    norm = np.where(np.isfinite(self.norm), self.norm, np.inf)
    return np.lexsort((-self.loss, -norm))


def examples(
  experiment: Experiment, program: update.Program, state: update.TrainState, rows: Mapping[str, Any]
) -> Examples:
  """Every example of the batch that update `state.step + 1` takes.

  It takes as many backward passes as there are examples: of one row each, or, where a loss compares
  examples or something is drawn at random, of a microbatch each.
  """
  names = tuple(unstack(program.abstract.params))
  groups = tuple(dict.fromkeys(map(group, names)))
  of = jnp.asarray([groups.index(group(name)) for name in names])
  compares = hasattr(experiment.objective, "cut")
  single = dataclasses.replace(experiment, microbatches=experiment.microbatches if compares else 1)

  def by_group(numbers: Mapping[str, jax.Array]) -> jax.Array:
    found = jnp.stack([numbers.get(name, jnp.zeros(())) for name in names])
    return jnp.zeros(len(groups)).at[of].add(found)

  def whole(params, step, batch):
    with sharding.use(program.layout):
      key = gradients.randomness(experiment, step)
      grads, measured = gradients.of(experiment, params, batch, key)
      loss = measured["loss"]
      return _times(grads, loss.weight), loss.total, loss.weight

  def one(params, gradient, batch, key, row):
    with sharding.use(program.layout):
      alone = _counting(row, batch, compares)
      grads, measured = gradients.of(single, params, alone, key)
      loss = measured["loss"]
      mine, all_of_it = unstack(_times(grads, loss.weight)), unstack(gradient)
      squares = {name: jnp.sum(jnp.square(x)) for name, x in mine.items()}
      along = sum(jnp.sum(x * all_of_it[name]) for name, x in mine.items())
      return loss.total, loss.weight, by_group(squares), along

  def squares_of(gradient):
    return by_group({name: jnp.sum(jnp.square(x)) for name, x in unstack(gradient).items()})

  gradient, total, weight = jax.jit(whole)(state.params, state.step, program.place(rows))
  squares = np.asarray(jax.jit(squares_of)(gradient), np.float64)
  total, weight = float(total), float(weight) or 1.0
  cut = _Cut(experiment, program, state, dict(rows), single)
  one = jax.jit(one)
  found = [
    jax.device_get(one(state.params, gradient, *cut.of(row)))
    for row in counted("example", experiment.batch_size)
  ]
  totals, weights, norms, along = (
    np.stack([np.asarray(x[i], np.float64) for x in found]) for i in range(4)
  )
  return Examples(
    loss=totals / np.where(weights == 0, 1.0, weights),
    weight=weights,
    norms=np.sqrt(norms) / weight,
    share=along / (squares.sum() or 1.0),
    batch_norms=np.sqrt(squares) / weight,
    groups=groups,
    batch_loss=total / weight,
  )


def group(name: str) -> str:
  """The layer that a parameter belongs to, `blocks/3`; of one in no layer the module."""
  layer = re.match(r"(.*?(?:^|/)\d+)(?:/|$)", name)
  return layer[1] if layer else name.rpartition("/")[0] or name


class _Cut:
  """The microbatch of each example with its key and the row in it, as small as it may be."""

  def __init__(self, experiment, program, state, rows, single):
    self._experiment, self._program, self._rows = experiment, program, rows
    self._key = gradients.randomness(experiment, state.step)
    self._pieces = 1 if single.microbatches > 1 else experiment.microbatches
    layout = program.layout
    self._least = layout.parts("B")  # rows that the mesh divides: the example, and padding
    self._alone = (
      not hasattr(experiment.objective, "cut")
      and layout.size(STAGE) == 1
      and not _draws(single, program, state)
    )

  def of(self, row: int) -> tuple[dict[str, jax.Array], jax.Array, np.int32]:
    if self._alone:
      batch = {
        name: np.concatenate([x[row : row + 1], np.zeros((self._least - 1, *x.shape[1:]), x.dtype)])
        for name, x in self._rows.items()
      }
      return self._program.place(batch), self._key, np.int32(0)
    if self._pieces == 1:
      return self._program.place(self._rows), self._key, np.int32(row)
    pieces, keys = gradients.pieces(self._rows, self._key, self._pieces)
    which, at = row % self._pieces, row // self._pieces
    piece = {name: np.ascontiguousarray(x[which]) for name, x in pieces.items()}
    return self._program.place(piece), keys[which], np.int32(at)


def _draws(experiment: Experiment, program: update.Program, state: update.TrainState) -> bool:
  """Whether the key of a step changes anything, as dropout does."""
  batch = update.abstract_batch(experiment)

  def gradient(key, params, batch):
    with sharding.use(program.layout):
      return gradients.of(experiment, params, batch, key)

  traced = jax.make_jaxpr(gradient)(jax.random.key(0), program.abstract.params, batch)
  _, used = partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars))
  return used[0]


def _counting(row: jax.Array, batch: Mapping[str, jax.Array], compares: bool) -> dict[str, Any]:
  """The batch in which this row alone counts."""

  def others(x: jax.Array, instead: float) -> jax.Array:
    mine = (jnp.arange(x.shape[0]) == row).reshape(-1, *[1] * (x.ndim - 1))
    return jnp.where(mine, x, jnp.asarray(instead, x.dtype))

  if not compares:  # padding is zeros in every key
    return {name: others(x, 0) for name, x in batch.items()}
  there = batch["weights"] > 0
  weights = jnp.where(there, others(batch["weights"], THERE), 0.0)
  return {**batch, "weights": weights}


def _times(tree: Any, factor: jax.Array) -> Any:
  return jax.tree.map(lambda x: x * factor, tree)
