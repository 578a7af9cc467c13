"""Products of few rows and a weight in C++ (`vectors.cc`), for decoding."""

import jax
import jax.numpy as jnp
from jax import Array

from research.nn.native.library import target

ROWS, ROWS_TRANSPOSED = 8, 32  # at most; XLA would copy a transposed weight first
VECTOR = 64  # bytes


def fits(x_MK: Array, w: Array, transposed: bool) -> bool:
  """Whether there are few rows, and what is added up or produced fills vectors."""
  M, K = x_MK.shape
  columns = K if transposed else w.shape[1]
  known = x_MK.dtype == w.dtype and x_MK.dtype in (jnp.float32, jnp.bfloat16)
  values = VECTOR // x_MK.dtype.itemsize
  few = M <= ROWS or (transposed and M <= ROWS_TRANSPOSED)
  return known and few and K % values == 0 and columns % values == 0


def vectors(x_MK: Array, w: Array, *, transposed: bool) -> Array:
  """(M, K) times (K, N), or (N, K) where `transposed`: (M, N) float32. It has no gradient."""
  result = jax.ShapeDtypeStruct((x_MK.shape[0], w.shape[0 if transposed else 1]), jnp.float32)
  call = jax.ffi.ffi_call(target("Vectors"), result, vmap_method="sequential")
  return call(x_MK, w, transposed=transposed)
