"""What a decoder has read: the text at hand or, while a cache is kept, all text since it began."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from research.nn.masks import Mask, positions_in_segments


class History(nn.Module):
  """The causal mask and the positions of a decoder's next tokens.

  While a "cache" collection is mutable it remembers, per slot, the document (0 is padding) and the
  position of every token given so far, and the index of the next slot. Rows with prompts of
  different length are decoded together by padding them with segment 0, on either side. A cache
  made here has `length` slots; one handed in may have fewer. Nothing warns when it is full.
  """

  length: int

  @nn.compact
  def __call__(
    self, shape: tuple[int, int], segments_BL: Array | None, positions_BL: Array | None
  ) -> tuple[Mask, Array]:
    """For tokens of `shape` (B, L); a position is the number of earlier tokens of the document."""
    B, L = shape
    if self.is_initializing() or not self.is_mutable_collection("cache"):
      mask = Mask(causal=True, segments_BL=segments_BL)
      if positions_BL is None and segments_BL is None:
        positions_BL = jnp.broadcast_to(jnp.arange(L), shape)
      elif positions_BL is None:
        positions_BL = positions_in_segments(mask, L, L)
      return mask, positions_BL

    index = self.variable("cache", "index", jnp.zeros, (), jnp.int32)
    segments = self.variable("cache", "segments", jnp.zeros, (B, self.length), jnp.int32)
    positions = self.variable("cache", "positions", jnp.zeros, (B, self.length), jnp.int32)
    if segments_BL is None:
      segments_BL = jnp.ones(shape, jnp.int32)
    start, index.value = (0, index.value), index.value + L
    segments.value = jax.lax.dynamic_update_slice(segments.value, segments_BL, start)
    mask = Mask(
      causal=True,
      segments_BL=segments_BL,
      memory_segments_BM=segments.value,
      offset=start[1],
    )
    if positions_BL is None:
      positions_BL = positions_in_segments(mask, L, segments.value.shape[1])
    positions.value = jax.lax.dynamic_update_slice(positions.value, positions_BL, start)
    stood = {"positions_BL": positions_BL, "memory_positions_BM": positions.value}
    return dataclasses.replace(mask, **stood), positions_BL
