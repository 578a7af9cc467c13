"""CLIP: an image tower and a text tower that meet on a sphere (Radford et al., 2021).

SigLIP (Zhai et al., 2023, and its code) is pool="attention", first_norm=False, causal=False,
text_pool="last", projections="text", largest_scale=None, bias=-10.0, mean and deviation 0.5.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from research.errors import UserError
from research.models.checks import DTYPES, divides, one_of, positive
from research.models.vit import ViT
from research.nn.layers import Embed, LayerNorm, project, weight
from research.nn.positions import LearnedPositions
from research.nn.stack import LAYERS, REMAT
from research.nn.tower import climb, stack
from research.nn.transformer import ACTIVATIONS

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the colours in its data, as its code has them
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
LARGEST_SCALE = 100.0  # section 2.5
TEXT_POOLS = ("end", "last")
PROJECTIONS = ("both", "text")


class CLIP(nn.Module):
  """Images and captions as unit vectors, near where they belong together.

  Attributes:
    vocab_size, max_length: of captions.
    image_size, patch: rows and columns of an image, and of a patch.
    embedding: E, the size of the space that both towers are projected to.
    image_width, image_depth, image_heads: of the image tower, a `ViT`.
    text_width, text_depth, text_heads: of the text tower.
    image_hidden, text_hidden: widths of the MLPs; 4 times the tower's where not given.
    pool, first_norm: of the image tower, see `ViT`.
    causal: whether a token of a caption sees only those before it.
    text_pool: "end" reads the state of a caption's end, "last" that of the last place of the row.
    projections: "both" towers are projected, or only the "text", with a bias, to the width of the
      image tower.
    mean, deviation: of the colours, see `ViT`.
    patch_dropout: share of the patches that training leaves out, see `ViT`.
    largest_scale: the least temperature is one over it; None has no bound.
    temperature: at the start; similarities are divided by it, and it is learned.
    bias: added to the scaled similarities, at the start, where a loss uses one (SigLIP); or None.
    activation: of both towers.
    dtype: of the activations; parameters, norms, softmax and embeddings are float32.
    layers, remat: see `Stack`.
  """

  vocab_size: int
  image_size: int
  patch: int
  embedding: int
  image_width: int
  image_depth: int
  image_heads: int
  text_width: int
  text_depth: int
  text_heads: int
  max_length: int = 77
  image_hidden: int | None = None
  text_hidden: int | None = None
  pool: str = "class"
  first_norm: bool = True
  causal: bool = True
  text_pool: str = "end"
  projections: str = "both"
  mean: tuple[float, ...] = MEAN
  deviation: tuple[float, ...] = DEVIATION
  patch_dropout: float = 0.0
  largest_scale: float | None = LARGEST_SCALE
  temperature: float = 0.07
  bias: float | None = None
  activation: str = "quick_gelu"
  epsilon: float = 1e-5
  dtype: str = "float32"
  layers: str = "auto"
  remat: str = "none"

  def setup(self):
    if self.temperature <= 0:
      raise UserError(f"temperature={self.temperature} must be above 0; CLIP's is 0.07.")
    check(self)
    shared = {
      name: getattr(self, name) for name in ("activation", "epsilon", "dtype", "layers", "remat")
    }
    self.image = ViT(
      image_size=self.image_size,
      patch=self.patch,
      width=self.image_width,
      depth=self.image_depth,
      heads=self.image_heads,
      hidden=self.image_hidden,
      pool=self.pool,
      first_norm=self.first_norm,
      mean=self.mean,
      deviation=self.deviation,
      patch_dropout=self.patch_dropout,
      **shared,
    )
    self.text = TextTower(
      vocab_size=self.vocab_size,
      max_length=self.max_length,
      width=self.text_width,
      depth=self.text_depth,
      heads=self.text_heads,
      hidden=self.text_hidden,
      causal=self.causal,
      pool=self.text_pool,
      **shared,
    )
    if self.projections == "both":
      self.project_image = self._projection(self.image_width)
    self.project_text = self._projection(self.text_width, bias=self.projections == "text")
    start = nn.initializers.constant(-math.log(self.temperature))
    self.log_scale = weight(self, "log_scale", start, "", {})
    if self.bias is not None:
      self.offset = weight(self, "score_bias", nn.initializers.constant(self.bias), "", {})

  def _projection(self, width: int, *, bias: bool = False) -> nn.Module:
    init = nn.initializers.normal(width**-0.5)
    return project("BD,DE->BE", E=self.embedding, bias=bias, init=init)

  def encode_image(self, image_BYXC: Array) -> Array:
    """(B, Y, X, C) from 0 to 255, or what `see` made of it, -> unit vectors (B, E) float32."""
    if image_BYXC.ndim == 2 and self.is_initializing():  # the tower is a part of the model still
      self.image(jnp.zeros((1, self.image_size, self.image_size, len(self.mean)), jnp.uint8))
    x_BD = image_BYXC.astype(self.dtype) if image_BYXC.ndim == 2 else self.image(image_BYXC)
    return unit(self.project_image(x_BD) if self.projections == "both" else x_BD)

  def see(self, image_BYXC: Array) -> Array:
    """(B, Y, X, C) from 0 to 255 -> (B, D): the image tower alone, before its projection."""
    return self.image(image_BYXC)

  def encode_text(self, caption_BL: Array, end_B: Array) -> Array:
    """Tokens (B, L) and the place of the last, end-of-text, in each -> unit vectors (B, E)."""
    return unit(self.project_text(self.text(caption_BL, end_B)))

  def scale(self) -> Array:
    """What similarities are multiplied by: one over the temperature."""
    if self.largest_scale is None:
      return jnp.exp(self.log_scale)
    return jnp.exp(at_most(self.log_scale, math.log(self.largest_scale)))

  def score_bias(self) -> Array:
    """What is added to scaled similarities."""
    if self.bias is None:
      raise UserError("the model has no bias, which this loss needs; give model.bias=-10.0.")
    return self.offset


class TextTower(nn.Module):
  """From the tokens of a caption to one vector: the state of its end, which sees all before it.

  Attributes: as of `ViT` and `GPT`; causal, pool as of `CLIP` (there `text_pool`).
  """

  vocab_size: int
  max_length: int
  width: int
  depth: int
  heads: int
  hidden: int | None = None
  causal: bool = True
  pool: str = "end"
  activation: str = "gelu"
  epsilon: float = 1e-5
  dtype: str = "float32"
  layers: str = "auto"
  remat: str = "none"

  def setup(self):
    choices = {"activation": ACTIVATIONS, "dtype": DTYPES, "layers": LAYERS, "remat": REMAT}
    one_of(self, {"pool": TEXT_POOLS, **choices})
    positive(self, "vocab_size", "max_length", "width", "depth", "heads")
    divides("heads", self.heads, "width", self.width)
    normal = nn.initializers.normal
    self.embed = Embed(self.vocab_size, self.width, normal(0.02), self.dtype)
    self.embed_positions = LearnedPositions(self.max_length, self.width, normal(0.01), letter=".")
    self.blocks = stack(self)
    self.final_norm = LayerNorm(self.epsilon)

  def __call__(self, caption_BL: Array, end_B: Array) -> Array:
    """(B, L) and (B,) int32 -> (B, D)."""
    length = caption_BL.shape[1]
    if length > self.max_length:
      raise UserError(
        f"captions of {length} tokens are longer than the model's max_length={self.max_length}; "
        "shorten the data's length, or raise max_length."
      )
    x_BLD = self.embed(caption_BL) + self.embed_positions(jnp.arange(length)[None])
    x_BLD = climb(self.blocks, x_BLD.astype(self.dtype), causal=self.causal)
    if self.pool == "last":
      end_B = jnp.full_like(end_B, length - 1)
    # A product rather than a look-up: the length may be split over devices.
    last_BL = jax.nn.one_hot(end_B, length, dtype=x_BLD.dtype)
    return self.final_norm(jnp.einsum("BL,BLD->BD", last_BL, x_BLD))


def check(model: CLIP) -> None:
  """Raises a UserError where the numbers of a model do not fit one another."""
  one_of(model, {"projections": PROJECTIONS})
  positive(model, "embedding")
  if model.projections == "text" and model.embedding != model.image_width:
    raise UserError(
      f"embedding={model.embedding}: where only the text is projected, embeddings are as wide as "
      f"the image tower; give embedding={model.image_width}."
    )


def unit(x_BE: Array) -> Array:
  """Vectors of length 1, in float32."""
  x_BE = x_BE.astype(jnp.float32)
  return x_BE * jax.lax.rsqrt(jnp.maximum(jnp.sum(x_BE**2, axis=-1, keepdims=True), 1e-24))


@jax.custom_vjp
def at_most(x: Array, limit: float) -> Array:
  """min(x, limit), whose gradient passes where descent along it leads back below the limit.

  A parameter beyond the limit so has a way back, which the gradient of a plain minimum would not
  give. Unlike one that is clipped after every update, it may lie there: momentum carries it on.
  """
  return jnp.minimum(x, limit)


def _at_most_backward(beyond, gradient):
  return jnp.where(beyond & (gradient < 0), 0.0, gradient), None


at_most.defvjp(lambda x, limit: (jnp.minimum(x, limit), x >= limit), _at_most_backward)
