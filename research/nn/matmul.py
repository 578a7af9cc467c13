"""The one dense product of activations and weights; every layer goes through it."""

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from research.nn import cpu


def contract(equation: str, x: Array, w: Array, *, dtype: DTypeLike | None = None) -> Array:
  """`einsum(equation, x, w)` of activations and one weight, in the dtype of the activations.

  Args:
    equation: as `"BLD,DHK->BLHK"`.
    x: activations.
    w: a weight, float32; it is cast to the dtype of `x` for the product.
    dtype: of the result, if not that of `x`; the accumulator is float32 either way.
  """
  if cpu.applies() and (y := cpu.contract(equation, x, w, dtype=dtype or x.dtype)) is not None:
    return y
  return jnp.einsum(equation, x, w.astype(x.dtype), preferred_element_type=dtype or x.dtype)
