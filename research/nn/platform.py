"""Which machine a program is being traced for; the CPU's own code paths are chosen by it."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import jax

_target: contextvars.ContextVar[str | None] = contextvars.ContextVar("target", default=None)


def platform() -> str:
  """ "cpu", "gpu" or "tpu": what the function being traced will run on.

  It is asked while tracing, so a compiled function keeps the answer it was traced with.
  """
  return _target.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(target: str) -> Iterator[None]:
  """Traces for another machine than this one: a planner on a laptop sees the program of the pod.

  "plain" is a machine without kernels of its own, whose every product can be counted.
  Functions traced before keep their old answer in JAX's cache; trace a fresh one inside.
  """
  token = _target.set(target)
  try:
    yield
  finally:
    _target.reset(token)


def fence(x: jax.Array) -> jax.Array:
  """Ends a layer, where the compiler would otherwise fuse across it; the identity elsewhere."""
  if platform() != "cpu":
    return x
  from research.nn import cpu

  return cpu.fence(x)


def settle(x: Any) -> Any:
  """Has values, and in the backward pass their gradients, stand in memory before they are used.

  XLA:TPU would make an activation again for each tile of each product that reads it, and keep the
  matrix units waiting: a gated MLP's products ran at 65 % of the peak instead of 82. The identity
  elsewhere.
  """
  return jax.lax.optimization_barrier(x) if platform() == "tpu" else x


@jax.custom_vjp
def settle_gradient(x: Any) -> Any:
  """`settle`, of the gradient only."""
  return x


settle_gradient.defvjp(lambda x: (x, None), lambda _, gradient: (settle(gradient),))


def compiler_options() -> dict[str, str]:
  """What the compiler of this machine wants to be told with every program."""
  if platform() != "cpu":
    return {}
  from research.nn import cpu

  return cpu.compiler_options()
