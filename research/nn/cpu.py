"""All that is peculiar to XLA on a CPU, and nothing else; models never mention it.

What was measured (two Zen 5 cores, jax 0.10), in order of effect:

memory     glibc has to keep what was freed, see `research/memory.py`.
bfloat16   a product of bfloat16 with a bfloat16 result is computed in float32, after two
           conversions; asked for a float32 result it is a kernel of the processor's own bfloat16
           instructions, twice as fast as float32. `contract` asks so, forward and backward.
layout     that kernel takes its first operand row by row only, see `transpose`.
matrices   XLA knows nothing of Intel's matrix instructions: `native/products.cc`.
fences     without one after each residual, fusions repeat the whole network's sums in each layer,
           and without those of `rotary.py` its sines.
attention  `cpu_attention.py`, and `native/attention.cc` where there is a compiler.
activation `native/activations.cc`: XLA takes four times as long as the memory does.
loss       `cpu_cross_entropy.py`: the gradients along with the loss.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from research import sharding
from research.nn import native
from research.nn.platform import platform

FEWEST_ROWS = 64  # of activations for which weights are copied side by side
Product = tuple[str, Array, Array | None]  # equation, weight, bias


def compiler_options() -> dict[str, str]:
  """Lets fences reach the fusion passes: XLA:CPU would remove them before."""
  return {"xla_disable_hlo_passes": "cse_barrier_expander"}


def applies() -> bool:
  """Whether this file's kernels are for what is being traced: one CPU device.

  On many devices (of CPUs: in tests) the plain paths are partitioned by the compiler.
  """
  return platform() == "cpu" and sharding.one_device()


def fence(x: Array) -> Array:
  """Ends a fusion."""
  return jax.lax.optimization_barrier(x)


def contract(
  equation: str, x: Array, w: Array, bias: Array | None, *, dtype: DTypeLike
) -> Array | None:
  """`einsum(equation, x, w) + bias` as one product of matrices, or None where it is not one.

  Operands have the dtype of `x`, sums are float32 and so are the gradients of a float32 `w` and
  `bias`; the latter has the last letters of the output.
  """
  plan = _plan(equation)
  if plan is None or x.dtype not in (jnp.float32, jnp.bfloat16):
    return None
  sizes = dict(zip(plan.inputs, x.shape)) | dict(zip(plan.weight, w.shape))
  inner = math.prod(sizes[letter] for letter in plan.contracted)
  x_MK = x.reshape(-1, inner)
  w_matrix = w.reshape((-1, inner) if plan.transposed else (inner, -1))
  if bias is not None:
    bias = jnp.broadcast_to(bias, [sizes[letter] for letter in plan.columns]).reshape(-1)
  y_MN = _product(x_MK, w_matrix, bias, plan.transposed, jnp.dtype(dtype))
  return y_MN.reshape([sizes[letter] for letter in plan.outputs])


def contract_all(products: Sequence[Product], x: Array) -> list[Array] | None:
  """`contract` of one `x` with several weights side by side, or None where that is not faster.

  One product of many columns is nearer the peak than several of few, and its backward pass reads
  `x` once and adds nothing up.
  """
  plans = [_plan(equation) for equation, *_ in products]
  if (
    x.dtype not in (jnp.float32, jnp.bfloat16) or None in plans or any(p.transposed for p in plans)
  ):
    return None
  inputs, weights, biases = x.shape, [w for _, w, _ in products], [bias for *_, bias in products]
  contracted = len(plans[0].contracted)
  inner = math.prod(inputs[-contracted:])
  x_MK = x.reshape(-1, inner)
  alike = len({(p.contracted, bias is None) for p, bias in zip(plans, biases)}) == 1
  if not alike or len(x_MK) < FEWEST_ROWS:
    return None
  w_KN = jnp.concatenate([w.reshape(inner, -1) for w in weights], axis=1)
  bias_N = None if None in biases else jnp.concatenate([bias.reshape(-1) for bias in biases])
  ends = np.cumsum([w.size // inner for w in weights])[:-1]
  ys = jnp.split(_product(x_MK, w_KN, bias_N, False, x.dtype), ends, axis=1)
  return [y.reshape(*inputs[:-contracted], *w.shape[contracted:]) for y, w in zip(ys, weights)]


class _Plan(NamedTuple):
  inputs: str
  weight: str
  outputs: str
  contracted: str
  columns: str  # of the output
  transposed: bool  # the weight is (out, in)


@functools.cache
def _plan(equation: str) -> _Plan | None:
  """How an equation such as "BLHK,HKD->BLD" is a product of two matrices without any transpose."""
  inputs, weight, outputs = equation.replace("->", ",").split(",")
  contracted = "".join(letter for letter in inputs if letter in weight)
  rows, columns = (w.replace(contracted, "") for w in (inputs, weight))
  fits = inputs.endswith(contracted) and outputs == rows + columns and contracted
  transposed = weight.endswith(contracted)
  if not fits or not (transposed or weight.startswith(contracted)):
    return None
  return _Plan(inputs, weight, outputs, contracted, columns, transposed)


def dot(
  a_MK: Array, b: Array, *, transposed: bool = False, dtype: DTypeLike = jnp.float32
) -> Array:
  """(M, K) times (K, N), or (N, K) where `transposed`: (M, N), summed in float32.

  The fence keeps its result row by row: layout assignment would hand a transpose that follows
  back to the product, which in bfloat16 has no such kernel and fails when it runs.
  """
  if native.product_fits(a_MK, b, False, transposed):
    return native.product(a_MK, b, None, a_transposed=False, b_transposed=transposed, dtype=dtype)
  dimensions = (((1,), (1 if transposed else 0,)), ((), ()))
  y_MN = jax.lax.dot_general(a_MK, b, dimensions, preferred_element_type=jnp.float32)
  return fence(y_MN).astype(dtype)


def dot_columns(a_KM: Array, b_KN: Array) -> Array:
  """The columns of one times those of another: (M, N) float32."""
  if native.product_fits(a_KM, b_KN, True, False):
    return native.product(
      a_KM, b_KN, None, a_transposed=True, b_transposed=False, dtype=jnp.float32
    )
  return dot(transpose(a_KM), b_KN)


def transpose(x_MN: Array) -> Array:
  """(N, M), really copied: a product's first operand in bfloat16 has to lie row by row.

  A plain transpose becomes a layout, not a copy. One that passes through three axes, of which a
  reshape then merges two, cannot become one.
  """
  M, N = x_MN.shape
  if N % 2 == 0:
    split = x_MN.reshape(M, 2, N // 2).transpose(1, 2, 0)
  elif M % 2 == 0:
    split = x_MN.reshape(2, M // 2, N).transpose(2, 0, 1)
  else:
    return x_MN.T
  return fence(split.reshape(N, M))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _product(x_MK: Array, w: Array, bias_N: Array | None, transposed: bool, dtype) -> Array:
  w = w.astype(x_MK.dtype)
  few = native.vectors_fit(x_MK, w, transposed) and native.available()
  if not few and native.product_fits(x_MK, w, False, transposed):
    return native.product(x_MK, w, bias_N, a_transposed=False, b_transposed=transposed, dtype=dtype)
  y_MN = (native.vectors if few else dot)(x_MK, w, transposed=transposed)
  return (y_MN if bias_N is None else y_MN + bias_N).astype(dtype)


def _product_forward(x_MK, w, bias_N, transposed, dtype):
  cast = w.astype(x_MK.dtype)
  y_MN = _product(x_MK, cast, bias_N, transposed, dtype)
  return y_MN, (x_MK, cast, bias_N, jnp.zeros((), w.dtype))


def _product_backward(transposed, dtype, saved, dy_MN):
  x_MK, w, bias_N, like_w = saved
  # Made once: three products read it, and a sum that would make it again for itself.
  dy_MN = fence(dy_MN.astype(x_MK.dtype))
  dx_MK = dot(dy_MN, w, transposed=not transposed, dtype=x_MK.dtype)
  first, second = (dy_MN, x_MK) if transposed else (x_MK, dy_MN)
  # Of the two operands and the result, the narrowest is what gets transposed, where one has to be.
  turned = first.shape[1] > second.shape[1] and not native.product_fits(first, second, True, False)
  dw = transpose(dot_columns(second, first)) if turned else dot_columns(first, second)
  dbias_N = None if bias_N is None else sum_rows(dy_MN).astype(bias_N.dtype)
  return dx_MK, dw.astype(like_w.dtype), dbias_N


_product.defvjp(_product_forward, _product_backward)


def activate(name: str, x: Array) -> Array | None:
  """An activation and its gradient in one pass each, or None where there is no such kernel."""
  fast = native.activation_fits(name, x) and native.available()
  return native.activation(name, x) if fast else None


def sum_rows(x_MN: Array) -> Array:
  """(N,) float32, as a product with ones: five times as fast as XLA:CPU's own column sums."""
  return dot(jnp.ones((4, x_MN.shape[0]), x_MN.dtype), x_MN)[0]
