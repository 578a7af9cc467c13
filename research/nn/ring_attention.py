"""Attention over a text that is split among devices: keys and values travel around in a ring.

Liu, Zaharia & Abbeel, 2023 (Ring Attention with Blockwise Transformers). Each device keeps its
queries; what it knows of the softmax so far is a maximum and a sum for each of them. No device
ever holds more than its own share of the text and one neighbour's.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from research.nn.masks import Mask
from research.nn.shared_heads import spread
from research.sharding import Layout

LOWEST = -1e30  # of a score; not -inf, whose differences are not numbers
KEYS = 1024  # of one device that are scored at a time


def attend(q_BLHK: Array, k_BLGK: Array, v_BLGK: Array, mask: Mask, layout: Layout) -> Array:
  """softmax(q k / sqrt(K)) v under a mask, L being split over mesh axes by the rules of `layout`.

  Equal to `attention.attend` on one device; the gradient travels the ring once more.
  """
  B, L = q_BLHK.shape[:2]
  k_BLGK, v_BLGK = (spread(q_BLHK, x, layout) for x in (k_BLGK, v_BLGK))
  of_heads = layout.spec("BLHK", q_BLHK.shape)
  of_ids, of_row = layout.spec("BL", (B, L)), layout.spec("B", (B,))
  axes = of_ids[1]
  mask = dataclasses.replace(
    mask,
    memory_segments_BM=_first(mask.memory_segments_BM, mask.segments_BL),
    memory_positions_BM=_first(mask.memory_positions_BM, mask.positions_BL),
  )
  mask = jax.tree.map(lambda x: jnp.broadcast_to(x, (B, *x.shape[1:])), mask)
  specs = jax.tree.map(lambda x: of_ids if x.ndim == 2 else of_row, mask)
  ring = jax.shard_map(
    functools.partial(_ring, axes),
    mesh=layout.mesh,
    in_specs=(of_heads, of_heads, of_heads, specs),
    out_specs=of_heads,
    check_vma=False,
  )
  return ring(q_BLHK, k_BLGK, v_BLGK, mask)


def _first(array: Array | None, default: Array | None) -> Array | None:
  return default if array is None else array


class _Memory(NamedTuple):
  """What travels: keys and values, and what the mask has to know of them."""

  k_BMGK: Array
  v_BMGK: Array
  segments_BM: Array | None
  positions_BM: Array | None


def _ring(axes: Any, q_BLHK: Array, k_BMGK: Array, v_BMGK: Array, mask: Mask) -> Array:
  """One device's share, inside `shard_map`."""
  B, L, H, K = q_BLHK.shape
  G = k_BMGK.shape[2]
  q_BLGRK = q_BLHK.reshape(B, L, G, H // G, K)
  return _attend(axes, q_BLGRK, k_BMGK, v_BMGK, mask).reshape(B, L, H, K)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(axes, q_BLGRK, k_BMGK, v_BMGK, mask):
  return _forward(axes, q_BLGRK, k_BMGK, v_BMGK, mask)[0]


def _forward(axes, q_BLGRK, k_BMGK, v_BMGK, mask):
  B, L, G, R, K = q_BLGRK.shape
  memory = _Memory(k_BMGK, v_BMGK, mask.memory_segments_BM, mask.memory_positions_BM)

  def step(carry, turn):
    memory, state = carry
    place = _place(axes, turn, L)

    def piece(state, i):
      y_BGRLK, top_BGRL, sum_BGRL = state
      k_BMGK, v_BMGK, visible = _piece(memory, mask, place, L, i)
      scores_BGRLM = _scores(q_BLGRK, k_BMGK, visible)
      new_BGRL = jnp.maximum(top_BGRL, jnp.max(scores_BGRLM, axis=-1))
      shrink_BGRL = jnp.exp(top_BGRL - new_BGRL)
      weights_BGRLM = jnp.where(visible, jnp.exp(scores_BGRLM - new_BGRL[..., None]), 0)
      mixed_BGRLK = jnp.einsum(
        "BGRLM,BMGK->BGRLK",
        weights_BGRLM.astype(v_BMGK.dtype),
        v_BMGK,
        preferred_element_type=jnp.float32,
      )
      y_BGRLK = y_BGRLK * shrink_BGRL[..., None] + mixed_BGRLK
      return (y_BGRLK, new_BGRL, sum_BGRL * shrink_BGRL + jnp.sum(weights_BGRLM, axis=-1)), None

    state, _ = jax.lax.scan(piece, state, jnp.arange(_pieces(L)))
    return (_pass_on(axes, memory), state), None

  zeros_BGRL = jnp.zeros((B, G, R, L), jnp.float32)
  state = (jnp.zeros((B, G, R, L, K), jnp.float32), zeros_BGRL + LOWEST, zeros_BGRL)
  turns = jnp.arange(jax.lax.axis_size(axes))
  (_, (y_BGRLK, top_BGRL, sum_BGRL)), _ = jax.lax.scan(step, (memory, state), turns)
  seen = sum_BGRL > 0  # a query that sees nothing gets zeros
  y_BGRLK = jnp.where(seen[..., None], y_BGRLK / jnp.where(seen, sum_BGRL, 1)[..., None], 0)
  y_BLGRK = jnp.moveaxis(y_BGRLK, 3, 1).astype(q_BLGRK.dtype)
  log_sum_BGRL = top_BGRL + jnp.log(jnp.where(seen, sum_BGRL, 1))
  return y_BLGRK, (q_BLGRK, k_BMGK, v_BMGK, mask, y_BLGRK, log_sum_BGRL)


def _backward(axes, saved, dy_BLGRK):
  q_BLGRK, k_BMGK, v_BMGK, mask, y_BLGRK, log_sum_BGRL = saved
  L = q_BLGRK.shape[1]
  scale = q_BLGRK.shape[-1] ** -0.5
  memory = _Memory(k_BMGK, v_BMGK, mask.memory_segments_BM, mask.memory_positions_BM)
  inner_BLGR = jnp.einsum(
    "BLGRK,BLGRK->BLGR", dy_BLGRK, y_BLGRK, preferred_element_type=jnp.float32
  )
  inner_BGRL = jnp.moveaxis(inner_BLGR, 1, 3)
  dtype = q_BLGRK.dtype
  product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)

  def step(carry, turn):
    memory, dk_BMGK, dv_BMGK, dq_BLGRK = carry
    place = _place(axes, turn, L)

    def piece(dq_BLGRK, i):
      k_BMGK, v_BMGK, visible = _piece(memory, mask, place, L, i)
      scores_BGRLM = _scores(q_BLGRK, k_BMGK, visible)
      weights_BGRLM = jnp.where(visible, jnp.exp(scores_BGRLM - log_sum_BGRL[..., None]), 0)
      dv_BMGK = product("BGRLM,BLGRK->BMGK", weights_BGRLM.astype(dtype), dy_BLGRK)
      dweights_BGRLM = product("BLGRK,BMGK->BGRLM", dy_BLGRK, v_BMGK)
      dscores_BGRLM = weights_BGRLM * (dweights_BGRLM - inner_BGRL[..., None]) * scale
      dscores_BGRLM = dscores_BGRLM.astype(dtype)
      dk_BMGK = product("BGRLM,BLGRK->BMGK", dscores_BGRLM, q_BLGRK)
      return dq_BLGRK + product("BGRLM,BMGK->BLGRK", dscores_BGRLM, k_BMGK), (dk_BMGK, dv_BMGK)

    dq_BLGRK, (more_dk, more_dv) = jax.lax.scan(piece, dq_BLGRK, jnp.arange(_pieces(L)))
    # The gradient of a key belongs to its owner: it travels along, and is home after a round.
    dk_BMGK, dv_BMGK = dk_BMGK + _joined(more_dk), dv_BMGK + _joined(more_dv)
    return (*_pass_on(axes, (memory, dk_BMGK, dv_BMGK)), dq_BLGRK), None

  zeros = [jnp.zeros(x.shape, jnp.float32) for x in (k_BMGK, v_BMGK, q_BLGRK)]
  turns = jnp.arange(jax.lax.axis_size(axes))
  (_, dk_BMGK, dv_BMGK, dq_BLGRK), _ = jax.lax.scan(step, (memory, *zeros), turns)
  return dq_BLGRK.astype(dtype), dk_BMGK.astype(dtype), dv_BMGK.astype(dtype), None


_attend.defvjp(_forward, _backward)


def _place(axes: Any, turn: Array, L: int) -> tuple[Array, Array]:
  """Where in the whole text this device's queries and the keys that it now holds begin."""
  here, count = jax.lax.axis_index(axes), jax.lax.axis_size(axes)
  return here * L, (here - turn) % count * L


def _pass_on(axes: Any, tree: Any) -> Any:
  """Everything goes to the next device of the ring."""
  count = jax.lax.axis_size(axes)
  ring = [(i, (i + 1) % count) for i in range(count)]
  return jax.tree.map(lambda x: jax.lax.ppermute(x, axes, ring), tree)


def _pieces(M: int) -> int:
  """How many pieces of at most `KEYS` keys a device's share is scored in."""
  return next(n for n in range(-(-M // KEYS), M + 1) if M % n == 0)


def _piece(memory: _Memory, mask: Mask, place, L: int, i: Array) -> tuple[Array, Array, Array]:
  """The i-th piece of the keys and values, and which of them each query sees: (B, 1, 1, L, M)."""
  M = memory.k_BMGK.shape[1] // _pieces(memory.k_BMGK.shape[1])
  part = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, i * M, M, axis=1), memory)
  mask = dataclasses.replace(
    mask, memory_segments_BM=part.segments_BM, memory_positions_BM=part.positions_BM
  )
  visible_B1LM = mask.dense(L, M, first_query=place[0], first_slot=place[1] + i * M)
  return part.k_BMGK, part.v_BMGK, visible_B1LM[:, :, None]


def _scores(q_BLGRK: Array, k_BMGK: Array, visible: Array) -> Array:
  scores_BGRLM = jnp.einsum(
    "BLGRK,BMGK->BGRLM", q_BLGRK, k_BMGK, preferred_element_type=jnp.float32
  )
  return jnp.where(visible, scores_BGRLM * q_BLGRK.shape[-1] ** -0.5, LOWEST)


def _joined(pieces: Array) -> Array:
  """(pieces, B, M, ...) -> (B, pieces * M, ...)."""
  n, B, M = pieces.shape[:3]
  return jnp.moveaxis(pieces, 0, 1).reshape(B, n * M, *pieces.shape[3:])
