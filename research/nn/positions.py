"""How a model knows where a token stands: a table, sines, biased scores; or see `rotary.py`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from research.nn.layers import Initializer, look_up, weight
from research.nn.masks import Mask
from research.sharding import constrain, gather


class LearnedPositions(nn.Module):
  """One vector for each position (GPT, BERT), added to the embedding of the token.

  Attributes:
    length, width, table_init: of the table.
    letter: of its first axis; "." for a length that no mesh needs to divide.
  """

  length: int
  width: int
  table_init: Initializer = nn.initializers.normal(0.02)
  letter: str = "L"

  @nn.compact
  def __call__(self, positions_BL: Array) -> Array:
    """(B, L) int32 -> (B, L, D) float32."""
    letters, sizes = self.letter + "D", {self.letter: self.length, "D": self.width}
    table_LD = weight(self, "table", self.table_init, letters, sizes)
    return look_up(gather(table_LD, letters, jnp.float32), positions_BL)


class RelativeBias(nn.Module):
  """A number for each head and distance, added to the scores of attention (T5, section 2.1).

  Distances share `buckets` of them: near ones have their own, far ones grow with the logarithm.

  Attributes:
    heads: of the attention.
    buckets: U, of both directions together, where both are seen.
    farthest: the distance from which on all share a bucket.
    table_init: of its values.
  """

  heads: int
  buckets: int
  farthest: int
  table_init: Initializer = nn.initializers.normal(0.02)

  @nn.compact
  def __call__(self, mask: Mask, L: int, M: int) -> Array:
    """(B or 1, H, L, M) float32, for L queries and M slots.

    Distances are those of the mask's positions or, without any, of the places in a row: they are
    the same wherever the tokens of a document stand side by side.
    """
    sizes = {"U": self.buckets, "H": self.heads}
    table_UH = gather(weight(self, "table", self.table_init, "UH", sizes), "UH", jnp.float32)
    query_BL, slot_BM = jnp.arange(L)[None], jnp.arange(M)[None]
    if mask.positions_BL is not None:
      query_BL, slot_BM = mask.positions_BL, mask.memory_positions_BM
    bucket_BLM = bucket(
      slot_BM[:, None, :] - query_BL[:, :, None],
      buckets=self.buckets,
      farthest=self.farthest,
      causal=mask.causal,
    )
    # A product, whose gradient is another: adding up B L M numbers one by one would take longer.
    one_hot_BLMU = jax.nn.one_hot(bucket_BLM, self.buckets)
    bias_BHLM = jnp.einsum(
      "BLMU,UH->BHLM", one_hot_BLMU, table_UH, precision=jax.lax.Precision.HIGHEST
    )
    return constrain(bias_BHLM, ".H..")


def bucket(distance: Array, *, buckets: int, farthest: int, causal: bool) -> Array:
  """The int32 bucket of each distance, which is above 0 where a slot comes after its query.

  Causal, all buckets are of what came before, and what comes after shares the first with the
  query itself. Otherwise the second half of the buckets is of what comes after. In either, half
  of the buckets are of one distance each, and the others are evenly spread over the logarithm.
  """
  after = 0
  if not causal:
    buckets //= 2
    after = buckets * (distance > 0)
    distance = -jnp.abs(distance)
  exact = buckets // 2
  # In NumPy, once: the edges between buckets must not depend on how a device computes logarithms.
  counted = np.arange(farthest + 1)
  ratio = np.maximum(counted, exact).astype(np.float32) / np.float32(exact)
  far = exact + np.log(ratio) / np.float32(np.log(farthest / exact)) * (buckets - exact)
  table = np.where(counted < exact, counted, np.minimum(far.astype(np.int32), buckets - 1))
  return jnp.asarray(table, jnp.int32)[jnp.clip(-distance, 0, farthest)] + after


def sinusoidal(positions_BL: Array, width: int, base: float = 10_000.0) -> Array:
  """Sines, then cosines, of wavelengths from 2π to base * 2π: (B, L, width) float32.

  Vaswani et al., 2017, section 3.5, with the two halves side by side rather than interleaved, as
  in Tensor2Tensor: a permutation of the width, which the first projection learns.
  """
  angles = positions_BL[..., None] * _frequencies(width // 2, base)
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def _frequencies(count: int, base: float) -> Array:
  return base ** (-jnp.arange(count, dtype=jnp.float32) / count)
