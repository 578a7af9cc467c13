"""Products of bfloat16 matrices by the matrix instructions of Intel's servers (`products.cc`)."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from research.nn.native.library import matrix_tiles, target

FEWEST = 2**18  # multiplications; fewer are not worth laying out tiles for
ROWS = 16  # at least, and values of k


def fits(a: Array, b: Array, a_transposed: bool, b_transposed: bool) -> bool:
  """Whether they are bfloat16, and enough of them, on a processor that has the instructions."""
  M, K = a.shape[::-1] if a_transposed else a.shape
  N = b.shape[0 if b_transposed else 1]
  known = a.dtype == b.dtype == jnp.bfloat16 and M >= ROWS and K >= ROWS
  return known and M * K * N >= FEWEST and matrix_tiles()


def product(
  a: Array,
  b: Array,
  bias_N: Array | None,
  *,
  a_transposed: bool,
  b_transposed: bool,
  dtype: DTypeLike,
) -> Array:
  """`a b + bias`, (M, N), summed in float32 and rounded once to `dtype`; it has no gradient.

  Args:
    a: (M, K), or (K, M) where `a_transposed`.
    b: (K, N), or (N, K) where `b_transposed`.
    bias_N: float32, or None.
    dtype: of the result, float32 or bfloat16.
  """
  M, N = a.shape[1 if a_transposed else 0], b.shape[0 if b_transposed else 1]
  like = jax.ShapeDtypeStruct((M, N), dtype)
  bias_N = jnp.zeros(0) if bias_N is None else bias_N.astype(jnp.float32)
  call = jax.ffi.ffi_call(target("Product"), like, vmap_method="sequential")
  return call(a, b, bias_N, a_transposed=a_transposed, b_transposed=b_transposed)
