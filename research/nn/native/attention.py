"""Attention in C++ (`attention.cc`) as a JAX function with a gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from research.nn.native.library import target

LANES = 16  # 32-bit words of a vector


def fits(q_BLHK: Array) -> bool:
  """Whether the key size fills whole vectors."""
  return q_BLHK.shape[-1] * q_BLHK.dtype.itemsize % (4 * LANES) == 0


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attention(
  band: tuple[bool, int | None],
  q_BLHK: Array,
  k_BMGK: Array,
  v_BMGK: Array,
  segments_BL: Array | None,
  segments_BM: Array | None,
) -> Array:
  """softmax(q k / sqrt(K)) v, all of one dtype, float32 or bfloat16; memory is linear in L.

  Args:
    band: (causal, window) as of `Mask`.
    segments_BL, segments_BM: int32 documents of queries and keys, or None for both.
  """
  return _forward(band, q_BLHK, k_BMGK, v_BMGK, segments_BL, segments_BM)[0]


def _forward(band, q_BLHK, k_BMGK, v_BMGK, segments_BL, segments_BM):
  B, L, H, _ = q_BLHK.shape
  call = jax.ffi.ffi_call(
    target("AttentionForward"),
    (
      jax.ShapeDtypeStruct(q_BLHK.shape, q_BLHK.dtype),
      jax.ShapeDtypeStruct((B, H, L), jnp.float32),
    ),
    vmap_method="broadcast_all",
  )
  segments = _segments(segments_BL, segments_BM)
  y_BLHK, normalizer_BHL = call(q_BLHK, k_BMGK, v_BMGK, *segments, **_attributes(band))
  saved = (q_BLHK, k_BMGK, v_BMGK, segments_BL, segments_BM, y_BLHK, normalizer_BHL)
  return y_BLHK, saved


def _backward(band, saved, dy_BLHK):
  q_BLHK, k_BMGK, v_BMGK, segments_BL, segments_BM, y_BLHK, normalizer_BHL = saved
  like = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (q_BLHK, k_BMGK, v_BMGK)]
  call = jax.ffi.ffi_call(target("AttentionBackward"), like, vmap_method="broadcast_all")
  segments = _segments(segments_BL, segments_BM)
  gradients = call(
    q_BLHK, k_BMGK, v_BMGK, *segments, y_BLHK, normalizer_BHL, dy_BLHK, **_attributes(band)
  )
  zeros = (
    None if s is None else np.zeros(s.shape, jax.dtypes.float0) for s in (segments_BL, segments_BM)
  )
  return (*gradients, *zeros)


attention.defvjp(_forward, _backward)


def _attributes(band: tuple[bool, int | None]) -> dict[str, object]:
  causal, window = band
  return {"causal": bool(causal), "window": np.int64(window or 0)}


def _segments(*segments: Array | None) -> tuple[Array, ...]:
  return tuple(jnp.zeros((0,), jnp.int32) if s is None else s for s in segments)
