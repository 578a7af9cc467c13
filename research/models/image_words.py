"""A picture as the words of its caption, whatever their order (Joulin et al., 2016).

The predictor that CLIP's figure 2 is held against (Radford et al., 2021, section 2.3).
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from research.models.checks import positive
from research.models.clip import DEVIATION, MEAN, unit
from research.models.vit import ViT
from research.nn.layers import Embed, project
from research.sharding import gather


class ImageWords(nn.Module):
  """An image tower, and a vector for each word that its pictures may be described by.

  It predicts words from pictures; and as a caption is the mean of its words, both are unit vectors
  that can be compared as those of a `CLIP`.

  Attributes:
    vocab_size: of captions.
    image_size, patch, width, depth, heads, activation, dtype: of the image tower, a `ViT`.
    embedding: E, the size of the space that both live in.
    mean, deviation: of the colours, see `ViT`.
  """

  vocab_size: int
  image_size: int
  patch: int
  embedding: int
  width: int
  depth: int
  heads: int
  mean: tuple[float, ...] = MEAN
  deviation: tuple[float, ...] = DEVIATION
  activation: str = "quick_gelu"
  dtype: str = "float32"

  def setup(self):
    positive(self, "vocab_size", "embedding")
    self.image = ViT(
      image_size=self.image_size,
      patch=self.patch,
      width=self.width,
      depth=self.depth,
      heads=self.heads,
      first_norm=True,
      mean=self.mean,
      deviation=self.deviation,
      activation=self.activation,
      dtype=self.dtype,
    )
    init = nn.initializers.normal(self.width**-0.5)
    self.project_image = project("BD,DE->BE", E=self.embedding, bias=False, init=init)
    self.words = Embed(self.vocab_size, self.embedding, nn.initializers.normal(0.02))

  def predict_words(self, image_BYXC: Array) -> Array:
    """(B, Y, X, C) from 0 to 255 -> logits (B, V) float32."""
    image_BE = self.project_image(self.image(image_BYXC)).astype(jnp.float32)
    table_VE = gather(self.words.table, "VD", jnp.float32)
    return jnp.einsum("BE,VE->BV", image_BE, table_VE)

  def encode_image(self, image_BYXC: Array) -> Array:
    """-> unit vectors (B, E)."""
    return unit(self.project_image(self.image(image_BYXC)))

  def encode_text(self, caption_BL: Array, end_B: Array) -> Array:
    """Tokens (B, L) and the place of the last, end-of-text, in each -> unit vectors (B, E)."""
    weights_BL = jnp.arange(caption_BL.shape[1]) < end_B[:, None]
    return unit(jnp.einsum("BL,BLE->BE", weights_BL.astype(jnp.float32), self.words(caption_BL)))
