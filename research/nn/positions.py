"""How a model knows where a token stands: a learned table, sines, or rotated queries and keys."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from research.nn.layers import Initializer, look_up, weight
from research.sharding import gather


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


def sinusoidal(positions_BL: Array, width: int, base: float = 10_000.0) -> Array:
  """Sines, then cosines, of wavelengths from 2π to base * 2π: (B, L, width) float32.

  Vaswani et al., 2017, section 3.5, with the two halves side by side rather than interleaved, as
  in Tensor2Tensor: a permutation of the width, which the first projection learns.
  """
  angles = positions_BL[..., None] * _frequencies(width // 2, base)
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def rotate(x_BLHK: Array, positions_BL: Array, base: float = 10_000.0) -> Array:
  """Turns each pair of values by an angle of its position, so that scores depend on distances.

  Su et al., 2021 (RoFormer), pairing value i with value i + K/2 as in GPT-NeoX and Llama.
  """
  K = x_BLHK.shape[-1]
  angles_BL1K = positions_BL[:, :, None, None] * _frequencies(K // 2, base)
  cosine, sine = jnp.cos(angles_BL1K), jnp.sin(angles_BL1K)
  # Cut and joined in the narrow dtype, computed in the wide one: half the memory on the way.
  first, second = (half.astype(jnp.float32) for half in jnp.split(x_BLHK, 2, axis=-1))
  rotated = [first * cosine - second * sine, second * cosine + first * sine]
  return jnp.concatenate([half.astype(x_BLHK.dtype) for half in rotated], axis=-1)


def _frequencies(count: int, base: float) -> Array:
  return base ** (-jnp.arange(count, dtype=jnp.float32) / count)
