"""The dense product of activations and weights; every layer goes through it."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from research.nn import cpu


def contract(
  equation: str,
  x: Array,
  w: Array,
  bias: Array | None = None,
  *,
  dtype: DTypeLike | None = None,
) -> Array:
  """`einsum(equation, x, w) + bias` of activations and one weight, in the activations' dtype.

  Args:
    equation: as `"BLD,DHK->BLHK"`.
    x: activations.
    w: a weight, float32; it is cast to the dtype of `x` for the product.
    bias: has the last letters of the result, or None.
    dtype: of the result, if not that of `x`; the accumulator is float32 either way.
  """
  dtype = dtype or x.dtype
  if cpu.applies() and (y := cpu.contract(equation, x, w, bias, dtype=dtype)) is not None:
    return y
  y = jnp.einsum(equation, x, w.astype(x.dtype), preferred_element_type=dtype)
  return y if bias is None else y + bias.astype(dtype)


def contract_all(products: Sequence[cpu.Product], x: Array) -> list[Array]:
  """`contract` of the same activations with several weights: (equation, w, bias) of each."""
  if cpu.applies() and (ys := cpu.contract_all(products, x)) is not None:
    return ys
  return [contract(equation, x, w, bias) for equation, w, bias in products]
