"""Muon's direction: the momentum of each matrix, made orthogonal (Jordan et al., 2024).

Our own and not `optax.contrib.muon`, which runs every matrix as a batch of one: half the speed on
XLA:CPU. The product of the iteration is the same (a test holds it to optax's).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from research.errors import UserError
from research.optim import groups
from research.stacking import spell

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # steep at zero: Jordan et al., 2024


def scale_by_muon(momentum: float, rounds: int, rms: float | None) -> optax.GradientTransformation:
  """Nesterov momentum, orthogonalized, and scaled by shape; for matrices only.

  Args:
    momentum: decay of the sum of gradients.
    rounds: Newton-Schulz iterations.
    rms: None scales by sqrt(max(1, outputs / inputs)) (Jordan et al.); a number by
      rms * sqrt(max(inputs, outputs)), so that updates have about that root mean square, 0.2 being
      AdamW's (Liu et al., 2025, section 2.2).

  Raises:
    UserError: when a parameter is not a matrix.
  """

  def direction(path: Any, x: Array) -> Array:
    stack, inputs, outputs = _axes(path, x)
    # Stacked, inputs and outputs stand in this order already: a reshape is all it takes.
    sizes = [math.prod(x.shape[axis] for axis in axes) for axes in (inputs, outputs)]
    y = orthogonalize(x.reshape(*(x.shape[axis] for axis in stack), *sizes), rounds)
    fan_in, fan_out = sizes
    size = max(1, fan_out / fan_in) ** 0.5 if rms is None else rms * max(sizes) ** 0.5
    return (size * y).reshape(x.shape)

  def init(params):
    jax.tree.map_with_path(_axes, params)
    return optax.EmptyState()

  def update(updates, state, params=None):
    return jax.tree.map_with_path(direction, updates), state

  return optax.chain(
    optax.trace(momentum, nesterov=True), optax.GradientTransformation(init, update)
  )


def orthogonalize(x: Array, rounds: int) -> Array:
  """About U V^T of x = U S V^T, for each matrix of (..., rows, columns), by Newton-Schulz.

  Singular values end between about 0.7 and 1.2, which serves as well as 1.
  """
  tall = x.shape[-2] > x.shape[-1]
  x = x.mT if tall else x
  x = x / (jnp.linalg.norm(x, axis=(-2, -1), keepdims=True) + 1e-8)
  a, b, c = COEFFICIENTS
  for _ in range(rounds):
    gram = x @ x.mT
    x = a * x + (b * gram + c * gram @ gram) @ x
  return x.mT if tall else x


def _axes(path: Any, x: Any) -> groups.Axes:
  axes = groups.matrix_axes(path, x)
  if axes is None:
    raise UserError(
      f"Muon is for matrices, but {spell(path)} has the shape {tuple(x.shape)}; narrow its "
      f"matrices=... to names such as {groups.MATRICES!r}."
    )
  return axes
