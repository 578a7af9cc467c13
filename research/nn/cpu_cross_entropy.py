"""The vocabulary loss on a CPU: both gradients come along with the loss, in one pass over logits.

Pieces of the tokens bound the memory. Their logits are made once and forgotten, where the plain
path makes them twice: for the loss, and again for its gradient.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from research.nn import native
from research.nn.cpu import dot, dot_columns, transpose

LOGITS = 2**22  # of one piece: they should stay in the cache; at least as many as the table has


def cross_entropy(
  x_BLD: Array,
  table_VD: Array,
  bias_V: Array | None,
  targets_BL: Array,
  weights_BL: Array,
  *,
  label_smoothing: float,
  z_loss: float,
) -> tuple[Array, Array, Array, Array]:
  """As `nn.cross_entropy.cross_entropy`: total, loss_BL, nats_BL, correct_BL."""
  B, L, D = x_BLD.shape
  total, measured = _loss(
    (label_smoothing, z_loss),
    x_BLD.reshape(B * L, D),
    table_VD,
    bias_V,
    targets_BL.reshape(-1),
    weights_BL.reshape(-1).astype(jnp.float32),
  )
  return (total, *(jax.lax.stop_gradient(y.reshape(B, L)) for y in measured))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(smoothing, x_ND, table_VD, bias_V, targets_N, weights_N):
  """`smoothing` is (label_smoothing, z_loss); N = B L tokens."""
  cast_VD = table_VD.astype(x_ND.dtype)

  def piece(x_ND, targets_N, weights_N):
    _, loss_N, *measured = _logits(smoothing, x_ND, cast_VD, bias_V, targets_N)
    return jnp.sum(loss_N * weights_N), (loss_N, *measured)

  def step(total, inputs):
    more, measured = piece(*inputs)
    return total + more, measured

  pieces, inputs = _split(x_ND, table_VD, targets_N, weights_N)
  total, measured = _scan(step, jnp.zeros(()), inputs, pieces)
  return total, _join(measured, len(targets_N))


def _forward(smoothing, x_ND, table_VD, bias_V, targets_N, weights_N):
  (N, D), V, dtype = x_ND.shape, table_VD.shape[0], x_ND.dtype
  cast_VD = table_VD.astype(dtype)
  # Of the table's gradient, gᵀ x, transpose what is less: g, or once the result.
  matrices = native.product_fits(x_ND, cast_VD, False, True)  # take it either way
  of_result = N * dtype.itemsize > D * 4 and not matrices

  def step(carry, inputs):
    total, dtable, dbias_V = carry
    x_ND, targets_N, weights_N = inputs
    dlogits_NV, loss_N, *measured = _logits(smoothing, x_ND, cast_VD, bias_V, targets_N, weights_N)
    dx_ND = dot(dlogits_NV, cast_VD, dtype=dtype)
    pair = (x_ND, dlogits_NV) if of_result else (dlogits_NV, x_ND)
    more = dot_columns(*pair)
    if bias_V is not None:
      dbias_V += jnp.sum(dlogits_NV, axis=0, dtype=jnp.float32)
    total += jnp.sum(loss_N * weights_N)
    return (total, dtable + more, dbias_V), (dx_ND, loss_N, *measured)

  pieces, inputs = _split(x_ND, table_VD, targets_N, weights_N)
  dbias_V = None if bias_V is None else jnp.zeros(V)
  first = (jnp.zeros(()), jnp.zeros((D, V) if of_result else (V, D)), dbias_V)
  (total, dtable, dbias_V), (dx_ND, *measured) = _scan(step, first, inputs, pieces)
  measured = _join(tuple(measured), N)
  dtable_VD = (transpose(dtable) if of_result else dtable).astype(table_VD.dtype)
  dx_ND = dx_ND.reshape(-1, D)[:N]
  return (total, measured), (dx_ND, dtable_VD, dbias_V, measured[0], targets_N)


def _backward(smoothing, saved, cotangents):
  dx_ND, dtable_VD, dbias_V, loss_N, targets_N = saved
  c = cotangents[0]  # what is measured has no gradient
  no_gradient = np.zeros(targets_N.shape, jax.dtypes.float0)
  dbias_V = None if dbias_V is None else dbias_V * c
  return (dx_ND * c).astype(dx_ND.dtype), dtable_VD * c, dbias_V, no_gradient, loss_N * c


_loss.defvjp(_forward, _backward)


def _logits(smoothing, x_ND, table_VD, bias_V, targets_N, weights_N=None):
  """d total / d logits where weights are given, and per token the loss, nats and correctness."""
  label_smoothing, z_loss = smoothing
  logits_NV = dot(x_ND, table_VD, transposed=True)
  if bias_V is not None:
    logits_NV += bias_V
  V = logits_NV.shape[1]
  largest_N = jnp.max(logits_NV, axis=1)
  sum_N = jnp.sum(jnp.exp(logits_NV - largest_N[:, None]), axis=1)
  normalizer_N = jnp.log(sum_N) + largest_N
  target_N = jnp.take_along_axis(logits_NV, targets_N[:, None], axis=1)[:, 0]
  loss_N = nats_N = normalizer_N - target_N
  if label_smoothing:
    uniform_N = normalizer_N - jnp.mean(logits_NV, axis=1)
    loss_N = (1 - label_smoothing) * nats_N + label_smoothing * uniform_N
  if z_loss:
    loss_N += z_loss * normalizer_N**2
  correct_N = (target_N >= largest_N).astype(jnp.float32)
  if weights_N is None:
    return None, loss_N, nats_N, correct_N
  scale_N = weights_N * (1 + 2 * z_loss * normalizer_N)
  dlogits_NV = jnp.exp(logits_NV - normalizer_N[:, None]) * scale_N[:, None]
  if label_smoothing:
    dlogits_NV -= weights_N[:, None] * label_smoothing / V
  is_target_NV = jax.lax.broadcasted_iota(jnp.int32, logits_NV.shape, 1) == targets_N[:, None]
  dlogits_NV -= jnp.where(is_target_NV, weights_N[:, None] * (1 - label_smoothing), 0)
  return dlogits_NV.astype(x_ND.dtype), loss_N, nats_N, correct_N


def _split(x_ND, table_VD, *of_tokens):
  """The number of pieces, and (pieces, N / pieces, ...) of every array, padded by zeros."""
  N = x_ND.shape[0]
  pieces = min(N, -(-N * table_VD.shape[0] // max(LOGITS, table_VD.size)))

  def split(y):
    y = jnp.pad(y, [(0, -N % pieces)] + [(0, 0)] * (y.ndim - 1))
    return y.reshape(pieces, -1, *y.shape[1:])

  return pieces, tuple(split(y) for y in (x_ND, *of_tokens))


def _scan(step, carry, inputs, pieces):
  if pieces > 1:
    return jax.lax.scan(step, carry, inputs)
  carry, outputs = step(carry, jax.tree.map(lambda y: y[0], inputs))
  return carry, jax.tree.map(lambda y: y[None], outputs)


def _join(measured, N):
  return jax.tree.map(lambda y: y.reshape(-1)[:N], measured)
