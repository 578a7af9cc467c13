"""How many operations a training step needs, and how many this machine can do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.experiment import Experiment
from research.nn import platform


def of_training(experiment: Experiment, batch: dict[str, Any]) -> float:
  """FLOPs of one step's matrix products: three times the forward pass's.

  Args:
    experiment: its model and objective are traced.
    batch: shapes (`jax.ShapeDtypeStruct` leaves).

  Masked attention counts in full and recomputation not at all, as in the usual definition of
  model FLOPs utilization (Chowdhery et al. 2022, appendix B).
  """
  key = jax.random.key(0)
  initialize, score = (f(experiment.objective, experiment.model) for f in (nn.init, nn.apply))
  with platform.compiling_for("plain"):  # no kernels there: every product is a dot_general
    variables = nn.meta.unbox(jax.eval_shape(initialize, key, batch))
    return 3 * count(jax.make_jaxpr(score)(variables, batch).jaxpr)


def count(jaxpr: Any, only: Callable[[Any], bool] = lambda equation: True) -> float:
  """FLOPs of the dot_generals and convolutions in a jaxpr, loops multiplied out.

  Args:
    only: which of the dot_generals count.
  """
  total = 0.0
  for equation in jaxpr.eqns:
    out = equation.outvars[0].aval if equation.outvars else None
    if equation.primitive.name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      lhs = equation.invars[0].aval.shape
      if only(equation):
        total += 2.0 * math.prod(out.shape) * math.prod(lhs[i] for i in contracted)
    elif equation.primitive.name == "conv_general_dilated":
      kernel = equation.invars[1].aval.shape
      outputs = equation.params["dimension_numbers"].rhs_spec[0]
      total += 2.0 * math.prod(out.shape) * math.prod(kernel) / kernel[outputs]
    else:
      times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
      total += times * sum(count(inner, only) for inner in _inner(equation.params))
  return total


def _inner(params: dict[str, Any]):
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      if hasattr(item, "jaxpr"):
        yield item.jaxpr
      elif hasattr(item, "eqns"):
        yield item


def peak(dtype: str) -> float:
  """FLOP/s of a large matrix product with operands of `dtype` on all devices, measured now."""
  on_cpu = jax.default_backend() == "cpu"
  n = 2048 if on_cpu else 8192
  # Products as the models make them: operands in the compute dtype, sums in float32.
  product = jax.jit(lambda a, b: jnp.dot(a, b, preferred_element_type=jnp.float32))
  a = jnp.ones((n, n), dtype)
  jax.block_until_ready(product(a, a))
  best = math.inf
  for _ in range(3):
    began = time.perf_counter()
    jax.block_until_ready(product(a, a))
    best = min(best, time.perf_counter() - began)
  return 2.0 * n**3 / best * (jax.process_count() if on_cpu else jax.device_count())
