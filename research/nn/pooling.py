"""One vector for a row of states."""

import jax.numpy as jnp
from jax import Array


def mean_state(x_BLD: Array, segments_BL: Array | None) -> Array:
  """(B, D) float32: the mean of the states that are no padding; zeros where a row has none.

  Args:
    x_BLD: states, summed in float32.
    segments_BL: 0 is padding; None for rows that have none.
  """
  if segments_BL is None:
    return jnp.mean(x_BLD, axis=1, dtype=jnp.float32)
  here_BL = (segments_BL > 0).astype(jnp.float32)
  total_BD = jnp.einsum("BLD,BL->BD", x_BLD.astype(jnp.float32), here_BL)
  return total_BD / jnp.maximum(here_BL.sum(axis=1, keepdims=True), 1)
