"""Activations in C++ (`activations.cc`): one pass over the memory, forward and backward."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from research.nn.native.library import target

FEWEST = 2**16  # values; fewer are better made where they are used
_TANH = 2 * math.sqrt(2 / math.pi)
# x times the normal distribution, or the logistic function of linear x + cubic x³.
KINDS = {
  "gelu_exact": (True, 0.0, 0.0),
  "gelu": (False, _TANH, _TANH * 0.044715),
  "quick_gelu": (False, 1.702, 0.0),
  "swish": (False, 1.0, 0.0),
}


def fits(name: str, x: Array) -> bool:
  """Whether there is such an activation of such values."""
  return name in KINDS and x.dtype in (jnp.float32, jnp.bfloat16) and x.size >= FEWEST


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def activation(name: str, x: Array) -> Array:
  """One of `KINDS` of every value, computed in float32."""
  return _call("Activation", name, x)


def _forward(name, x):
  return activation(name, x), x


def _backward(name, x, dy):
  return (_call("ActivationBackward", name, x, dy),)


activation.defvjp(_forward, _backward)


def _call(symbol: str, name: str, *inputs: Array) -> Array:
  normal, linear, cubic = KINDS[name]
  like = jax.ShapeDtypeStruct(inputs[0].shape, inputs[0].dtype)
  call = jax.ffi.ffi_call(target(symbol), like, vmap_method="broadcast_all")
  return call(*inputs, normal=normal, linear=np.float32(linear), cubic=np.float32(cubic))
