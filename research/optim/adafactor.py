"""Adafactor's direction: second moments kept as row and column means (Shazeer & Stern, 2018).

Our own and not `optax.adafactor`: that one factors the two largest axes of an array, whichever
they are, and clips whole arrays, so that stacked layers would share statistics. Here a weight is
the matrix of `groups.matrix_axes`, and each layer stands for itself.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from research.optim import groups


class FactoredState(NamedTuple):
  """Moving means of squared gradients.

  Attributes:
    count: updates done, int32.
    rows: by parameter, over the outputs of a matrix: as large as its inputs.
    columns: by parameter, over its inputs: as large as its outputs.
    whole: by parameter, unfactored, of vectors and small matrices.
  """

  count: Array
  rows: Any
  columns: Any
  whole: Any


def scale_by_adafactor(
  exponent: float, epsilon: float, threshold: float | None, min_scale: float | None, smallest: int
) -> optax.GradientTransformation:
  """Algorithms 4 and 5 of the paper; the arguments are explained at `optim.Adafactor`."""

  def factors(path: Any, x: Any) -> groups.Axes | None:
    axes = groups.matrix_axes(path, x)
    if axes is None:
      return None
    rows, columns = (_size(x, axes.inputs), _size(x, axes.outputs))
    return axes if min(rows, columns) >= smallest else None

  def init(params):
    absent = optax.MaskedNode()

    def zeros(field):
      def of(path, x):
        axes = factors(path, x)
        if axes is None:
          return jnp.zeros_like(x) if field == "whole" else absent
        if field == "whole":
          return absent
        kept = axes.stack + (axes.inputs if field == "rows" else axes.outputs)
        return jnp.zeros([x.shape[axis] for axis in kept], x.dtype)

      return jax.tree.map_with_path(of, params)

    return FactoredState(jnp.zeros((), jnp.int32), zeros("rows"), zeros("columns"), zeros("whole"))

  def update(updates, state, params):
    count = optax.safe_increment(state.count)
    decay = 1 - count.astype(jnp.float32) ** -exponent  # 0 at first: no bias to correct

    def one(path, g, rows, columns, whole, p):
      axes = factors(path, g)
      square = g * g + epsilon
      if axes is None:
        whole = decay * whole + (1 - decay) * square
        u = g * jax.lax.rsqrt(whole)
      else:
        rows = decay * rows + (1 - decay) * jnp.mean(square, axes.outputs)
        columns = decay * columns + (1 - decay) * jnp.mean(square, axes.inputs)
        scale = jnp.mean(rows, tuple(range(len(axes.stack), rows.ndim)), keepdims=True)
        u = g * jnp.expand_dims(jax.lax.rsqrt(rows / scale), axes.outputs)
        u *= jnp.expand_dims(jax.lax.rsqrt(columns), axes.inputs)
      own = groups.layer_axes(path, g)
      if threshold is not None:
        u /= jnp.maximum(1.0, _rms(u, own) / threshold)
      if min_scale is not None:
        u *= jnp.maximum(min_scale, _rms(p, own))
      return u, rows, columns, whole

    results = jax.tree.map_with_path(one, updates, state.rows, state.columns, state.whole, params)
    parts = [jax.tree.map(lambda _, r, i=i: r[i], updates, results) for i in range(4)]
    return parts[0], FactoredState(count, *parts[1:])

  return optax.GradientTransformation(init, update)


def _size(x: Any, axes: tuple[int, ...]) -> int:
  size = 1
  for axis in axes:
    size *= x.shape[axis]
  return size


def _rms(x: Array, axes: tuple[int, ...]) -> Array:
  return jnp.sqrt(jnp.mean(x * x, axes, keepdims=True))
