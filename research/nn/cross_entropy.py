"""The loss of predicting one of V words at every position, without holding all the logits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from research.nn import cpu, cpu_cross_entropy
from research.nn.matmul import contract
from research.nn.platform import settle_gradient
from research.sharding import active, constrain, gather

# Float32 logits beyond this many values are made and forgotten in up to CHUNKS pieces of L.
LOGITS, CHUNKS = 2**24, 8


class CrossEntropy(NamedTuple):
  """What the loss is made of; only `total` has a gradient.

  Attributes:
    total: sum over tokens of weight * loss, what is minimized.
    loss_BL: per token, with label smoothing and z-loss.
    nats_BL: per token, -log p(target).
    correct_BL: per token, 1 where the target is the likeliest word and 0 elsewhere.
  """

  total: Array
  loss_BL: Array
  nats_BL: Array
  correct_BL: Array


def cross_entropy(
  x_BLD: Array,
  table_VD: Array,
  targets_BL: Array,
  weights_BL: Array,
  *,
  bias_V: Array | None = None,
  label_smoothing: float = 0.0,
  z_loss: float = 0.0,
) -> CrossEntropy:
  """Cross-entropy of softmax(x · table + bias) in nats.

  With p the prediction, per token and Z the sum that normalizes it,
  loss = -(1 - s) log p(target) - s mean over v of log p(v) + z log(Z)², where s is
  `label_smoothing` (Szegedy et al., 2016) and z is `z_loss` (PaLM, section 5).

  Args:
    x_BLD: the model's last states.
    table_VD: one row per word.
    targets_BL: int32 words.
    weights_BL: of each token in `total`; 0 for padding.
    bias_V: float32, of each word; none where not given.
  """
  if cpu.applies():
    smoothing = {"label_smoothing": label_smoothing, "z_loss": z_loss}
    return CrossEntropy(
      *cpu_cross_entropy.cross_entropy(x_BLD, table_VD, bias_V, targets_BL, weights_BL, **smoothing)
    )
  B, L = targets_BL.shape
  V = table_VD.shape[0]
  pieces = min(CHUNKS, L, -(-B * L * V // LOGITS))
  parts = 1 if (layout := active()) is None else layout.parts("L")  # of every piece
  # The table's gradient is scattered before the layers' backward pass, not kept whole beside it.
  x_BLD, table_VD = settle_gradient((x_BLD, table_VD))
  # Once, rather than in every piece. The constraint makes the pieces' gradients add up whole on
  # each device: scattered sums would be sent for every piece.
  table_VD = constrain(gather(table_VD, "VD", x_BLD.dtype), "V.")
  words = (table_VD,) if bias_V is None else (table_VD, gather(bias_V, "V", jnp.float32))

  @jax.checkpoint
  def piece(words, x_BLD, targets_BL, weights_BL):
    logits_BLV = _biased(x_BLD, *words)
    log_normalizer_BL = jax.nn.logsumexp(logits_BLV, axis=-1)
    target_BL = jnp.take_along_axis(logits_BLV, targets_BL[..., None], axis=-1)[..., 0]
    loss_BL = nats_BL = log_normalizer_BL - target_BL
    if label_smoothing:
      uniform_BL = log_normalizer_BL - jnp.mean(logits_BLV, axis=-1)
      loss_BL = (1 - label_smoothing) * nats_BL + label_smoothing * uniform_BL
    if z_loss:
      loss_BL += z_loss * log_normalizer_BL**2
    correct_BL = (target_BL >= jnp.max(logits_BLV, axis=-1)).astype(jnp.float32)
    measured = jax.lax.stop_gradient((loss_BL, nats_BL, correct_BL))
    return jnp.sum(loss_BL * weights_BL), measured

  def padded(y):
    """By tokens without weight."""
    return jnp.pad(y, [(0, 0), (0, -L % (pieces * parts))] + [(0, 0)] * (y.ndim - 2))

  inputs = jax.tree.map(padded, (x_BLD, targets_BL, weights_BL))
  if pieces == 1:
    total, measured = piece(words, *inputs)
    return CrossEntropy(total, *(y[:, :L] for y in measured))

  def split(y):
    """(B, L, ...) -> (pieces, B, L / pieces, ...), of each device's rows and positions."""
    return jnp.moveaxis(y.reshape(B, -1, pieces, *y.shape[2:]), 2, 0)

  def join(y):
    return jnp.moveaxis(y, 0, 2).reshape(B, -1)[:, :L]

  def step(total, inputs):
    more, measured = piece(words, *inputs)
    return total + more, measured

  total, measured = jax.lax.scan(step, jnp.zeros(()), jax.tree.map(split, inputs))
  return CrossEntropy(total, *jax.tree.map(join, measured))


def unembed(x_BLD: Array, table_VD: Array, bias_V: Array | None = None) -> Array:
  """Float32 logits, (B, L, V)."""
  return _biased(x_BLD, gather(table_VD, "VD", x_BLD.dtype), bias_V)


def _biased(x_BLD: Array, table_VD: Array, bias_V: Array | None = None) -> Array:
  logits_BLV = _logits(x_BLD, table_VD)
  return logits_BLV if bias_V is None else logits_BLV + bias_V


@jax.custom_vjp
def _logits(x_BLD: Array, table_VD: Array) -> Array:
  logits_BLV = contract("BLD,VD->BLV", x_BLD, table_VD, dtype=jnp.float32)
  return constrain(logits_BLV, "BLV")


def _logits_forward(x_BLD, table_VD):
  return _logits(x_BLD, table_VD), (x_BLD, table_VD)


def _logits_backward(saved, gradient_BLV):
  """In the dtype of the operands, as of any other product; float32 would double what it costs."""
  x_BLD, table_VD = saved
  gradient_BLV = constrain(gradient_BLV, "BLV").astype(x_BLD.dtype)
  dx_BLD = jnp.einsum("BLV,VD->BLD", gradient_BLV, table_VD.astype(x_BLD.dtype))
  dtable_VD = jnp.einsum("BLV,BLD->VD", gradient_BLV, x_BLD, preferred_element_type=table_VD.dtype)
  return dx_BLD, dtable_VD


_logits.defvjp(_logits_forward, _logits_backward)
