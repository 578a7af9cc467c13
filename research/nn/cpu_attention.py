"""Attention on a CPU: blocks of queries that compute no score a causal mask or a window hides.

Its products have one batch axis and float32 results, the only form that XLA:CPU has fast kernels
for. Where a C++ compiler exists, `native/attention.cc` does the same without storing any score.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from research.nn import native
from research.nn.cpu import fence
from research.nn.masks import Mask

# More blocks of queries skip more of the scores that a causal mask hides; fewer are larger
# products. Measured best at 256 queries: 4 blocks in float32, 2 to 4 in bfloat16.
BLOCKS, SMALLEST = 8, 64


def attend(q_BLHK: Array, k_BMGK: Array, v_BMGK: Array, mask: Mask | None) -> Array | None:
  """softmax(q k / sqrt(K)) v as `nn.attend` defines it, or None for what only that one can do.

  That is: prefixes, caches, windows by position, and other dtypes than float32 and bfloat16.
  """
  mask = mask or Mask()
  known = mask.offset is None and mask.prefix_B is None and mask.positions_BL is None
  dtypes = {q_BLHK.dtype, k_BMGK.dtype, v_BMGK.dtype}
  if not known or dtypes not in ({jnp.dtype("float32")}, {jnp.dtype("bfloat16")}):
    return None
  (B, L), M = q_BLHK.shape[:2], k_BMGK.shape[1]
  segments_BL, segments_BM = mask.segments_BL, mask.memory_segments_BM
  if segments_BL is not None:
    segments_BM = segments_BL if segments_BM is None else segments_BM
    segments_BL = jnp.broadcast_to(segments_BL, (B, L)).astype(jnp.int32)
    segments_BM = jnp.broadcast_to(segments_BM, (B, M)).astype(jnp.int32)
  band = (mask.causal, mask.window)
  fast = native.attention_fits(q_BLHK) and native.available()
  attention = native.attention if fast else blocked
  return attention(band, q_BLHK, k_BMGK, v_BMGK, segments_BL, segments_BM)


def attend_few(
  q_BLHK: Array,
  k_BMGK: Array,
  v_BMGK: Array,
  mask: Mask | None,
  bias_BHLM: Array | None,
  scale: float,
) -> Array | None:
  """softmax(scale q k + bias) v of few queries, under any mask; None without a kernel for them."""
  if not (native.few_queries_fit(q_BLHK, k_BMGK, v_BMGK) and native.available()):
    return None
  L, M = q_BLHK.shape[1], k_BMGK.shape[1]
  added_BHLM = jnp.zeros((1, 1, L, M)) if bias_BHLM is None else bias_BHLM
  if mask is not None:
    added_BHLM = jnp.where(mask.dense(L, M), added_BHLM, -jnp.inf)
  return native.few_queries(scale, q_BLHK, k_BMGK, v_BMGK, added_BHLM)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def blocked(band, q_BLHK, k_BMGK, v_BMGK, segments_BL, segments_BM):
  """As `attend`; `band` is (causal, window)."""
  return _forward(band, q_BLHK, k_BMGK, v_BMGK, segments_BL, segments_BM)[0]


def _forward(band, q_BLHK, k_BMGK, v_BMGK, segments_BL, segments_BM):
  L, M, dtype = q_BLHK.shape[1], k_BMGK.shape[1], q_BLHK.dtype
  B, G, K = k_BMGK.shape[0], k_BMGK.shape[2], k_BMGK.shape[3]
  R = q_BLHK.shape[2] // G
  # One batch axis N of all key/value heads; the R query heads of each are neighbouring rows.
  q_NRLK = q_BLHK.reshape(B, L, G, R, K).transpose(0, 2, 3, 1, 4).reshape(B * G, R, L, K)
  q_NRLK = (q_NRLK.astype(jnp.float32) * K**-0.5).astype(dtype)
  k_NMK, v_NMK = _heads_first(k_BMGK), _heads_first(v_BMGK)
  outs, weights = [], []
  for start, stop, low, high in _blocks(L, M, *band):
    rows, some = slice(start, stop), slice(low, high)
    q_NQK = q_NRLK[:, :, rows].reshape(B * G, R * (stop - start), K)
    scores = _dot(q_NQK, k_NMK[:, some], ((2,), (2,)))
    visible = _visible(band, rows, some, segments_BL, segments_BM)
    if visible is not None:
      scores = scores.reshape(B, G, R, stop - start, high - low)
      scores = jnp.where(visible[:, None, None], scores, -jnp.inf)
      scores = scores.reshape(B * G, -1, high - low)
    largest = jnp.maximum(jnp.max(scores, axis=-1, keepdims=True), jnp.finfo(jnp.float32).min)
    exponentials = jnp.exp(scores - largest)
    total = jnp.sum(exponentials, axis=-1, keepdims=True)
    weights_NQM = (exponentials / jnp.where(total == 0, 1, total)).astype(dtype)
    weights.append(weights_NQM)
    outs.append(_dot(weights_NQM, v_NMK[:, some], ((2,), (1,))).reshape(B * G, R, -1, K))
  y_BLHK = _queries_first(jnp.concatenate(outs, axis=2), B).astype(dtype)
  return y_BLHK, (q_NRLK, k_NMK, v_NMK, tuple(weights), segments_BL, segments_BM)


def _backward(band, saved, dy_BLHK):
  q_NRLK, k_NMK, v_NMK, weights, *segments = saved
  (N, R, L, K), M, dtype = q_NRLK.shape, k_NMK.shape[1], q_NRLK.dtype
  B = dy_BLHK.shape[0]
  dy_NRLK = dy_BLHK.reshape(B, L, N // B, R, K).transpose(0, 2, 3, 1, 4).reshape(N, R, L, K)
  dq, dk_NMK, dv_NMK = [], 0.0, 0.0
  for (start, stop, low, high), weights_NQM in zip(_blocks(L, M, *band), weights, strict=True):
    some, outside = slice(low, high), ((0, 0), (low, M - high), (0, 0))
    q_NQK = q_NRLK[:, :, start:stop].reshape(N, -1, K)
    dy_NQK = dy_NRLK[:, :, start:stop].reshape(N, -1, K)
    dweights = _dot(dy_NQK, v_NMK[:, some], ((2,), (2,)))
    p = weights_NQM.astype(jnp.float32)
    dscores = (p * (dweights - jnp.sum(dweights * p, axis=-1, keepdims=True))).astype(dtype)
    dq.append(_dot(dscores, k_NMK[:, some], ((2,), (1,))).reshape(N, R, -1, K))
    dk_NMK += jnp.pad(_dot(_transpose(dscores), q_NQK, ((2,), (1,))), outside)
    dv_NMK += jnp.pad(_dot(_transpose(weights_NQM), dy_NQK, ((2,), (1,))), outside)
  dq_BLHK = _queries_first(jnp.concatenate(dq, axis=2) * K**-0.5, B)
  gradients = (dq_BLHK, _queries_first(dk_NMK[:, None], B), _queries_first(dv_NMK[:, None], B))
  return (
    *(g.astype(dtype) for g in gradients),
    *(None if s is None else _zero(s) for s in segments),
  )


blocked.defvjp(_forward, _backward)


def _blocks(L: int, M: int, causal: bool, window: int | None) -> list[tuple[int, int, int, int]]:
  """Queries from, to, and the keys from, to that they may see, as far as is known statically."""
  count = min(BLOCKS, max(1, L // SMALLEST)) if causal or window is not None else 1
  edges = np.linspace(0, L, count + 1).astype(int).tolist()
  blocks = []
  for start, stop in itertools.pairwise(edges):
    low = 0 if window is None else min(max(0, start - window + 1), M - 1)
    high = M if window is None else min(M, stop + window - 1)
    high = min(high, stop) if causal else high
    blocks.append((start, stop, low, max(high, low + 1)))
  return blocks


def _visible(band, rows: slice, some: slice, segments_BL, segments_BM) -> Array | None:
  """Bool, (B or 1, queries, keys) of a block, or None where all is visible."""
  causal, window = band
  distance = np.arange(rows.start, rows.stop)[:, None] - np.arange(some.start, some.stop)
  seen = np.ones(distance.shape, bool)
  if causal:
    seen &= distance >= 0
  if window is not None:
    seen &= abs(distance) < window
  if segments_BL is None:
    return None if seen.all() else jnp.asarray(seen[None])
  query_BL1, key_B1M = segments_BL[:, rows, None], segments_BM[:, None, some]
  return (query_BL1 == key_B1M) & (query_BL1 > 0) & seen


def _dot(a: Array, b: Array, contracted) -> Array:
  return jax.lax.dot_general(a, b, (contracted, ((0,), (0,))), preferred_element_type=jnp.float32)


def _heads_first(x_BMGK: Array) -> Array:
  B, M, G, K = x_BMGK.shape
  return x_BMGK.transpose(0, 2, 1, 3).reshape(B * G, M, K)


def _queries_first(x_NRLK: Array, B: int) -> Array:
  N, R, L, K = x_NRLK.shape
  x_BGRLK = x_NRLK.reshape(B, N // B, R, L, K)
  return x_BGRLK.transpose(0, 3, 1, 2, 4).reshape(B, L, (N // B) * R, K)


def _transpose(x_NQM: Array) -> Array:
  """(N, M, Q), copied rather than relabelled: see `cpu.transpose`."""
  N, Q, M = x_NQM.shape
  if M % 2 == 0:
    return fence(x_NQM.reshape(N, Q, 2, M // 2).transpose(0, 2, 3, 1).reshape(N, M, Q))
  if Q % 2 == 0:
    return fence(x_NQM.reshape(N, 2, Q // 2, M).transpose(0, 3, 1, 2).reshape(N, M, Q))
  return x_NQM.swapaxes(1, 2)


def _zero(integers: Array) -> np.ndarray:
  """What JAX takes for the gradient of an integer."""
  return np.zeros(integers.shape, jax.dtypes.float0)
