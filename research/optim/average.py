"""A moving average of the parameters, which often evaluates better than the newest ones."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from research.errors import UserError


def average(mean: Any, params: Any, decay: float, step: int | Array) -> Any:
  """The exponential moving average after one more update (Polyak & Juditsky, 1992).

  The decay in force is min(decay, (1 + t) / (10 + t)), as in TensorFlow's moving averages: the
  initial parameters, with which the average starts, are forgotten at once and not after
  1 / (1 - decay) updates.

  Args:
    mean: the average so far; the parameters themselves before the first update.
    params: the parameters after the update.
    decay: of the average once it is warm, in [0, 1).
    step: t, updates done before this one.

  Raises:
    UserError: the decay is not in [0, 1).
  """
  if not 0 <= decay < 1:
    raise UserError(f"average={decay} is the decay of a mean: choose one in [0, 1), as 0.999.")
  t = jnp.asarray(step, jnp.float32)
  new = 1 - jnp.minimum(decay, (1 + t) / (10 + t))
  return jax.tree.map(lambda m, p: m + new.astype(m.dtype) * (p - m), mean, params)
