"""Key/value heads that several query heads share, where query heads are split over devices."""

import math

import jax.numpy as jnp
from jax import Array

from research.sharding import Layout


def spread(q_BLHK: Array, x_BMGK: Array, layout: Layout) -> Array:
  """Keys or values as they are split beside the queries: by the rules for H, not for G.

  A device must hold what its own query heads look at. Where there are more devices than G, or G
  does not divide among them, neighbours have copies of the head that they share.
  """
  parts = layout.shards((layout.spec("BLHK", q_BLHK.shape)[2],))
  copies = parts // math.gcd(parts, x_BMGK.shape[2])
  return x_BMGK if copies == 1 else jnp.repeat(x_BMGK, copies, axis=2)
