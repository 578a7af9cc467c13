"""The vision transformer: an image as a sequence of patches (Dosovitskiy et al., 2020)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from research.errors import UserError
from research.models.checks import DTYPES, divides, one_of, positive
from research.nn.attention import Attention
from research.nn.layers import LayerNorm, project, weight
from research.nn.positions import LearnedPositions
from research.nn.stack import LAYERS, REMAT
from research.nn.tower import climb, stack
from research.nn.transformer import ACTIVATIONS, MLP
from research.sharding import gather

POOLS = ("class", "mean", "attention")


class ViT(nn.Module):
  """From pixels to one vector for an image, or to its class.

  Attributes:
    image_size: rows and columns, which are as many.
    patch: rows and columns of a patch; divides `image_size`.
    width, depth, heads: of the states, the stack and each layer's attention.
    hidden: width of the MLP; 4 width where not given.
    pool: "class" reads the state of a token that stands before the patches, "mean" averages the
      patches, "attention" has a learned query ask them (Zhai et al., 2022).
    representation: width of a layer with tanh after that (section 3.1, at pre-training); or None.
    classes: of a linear layer after all, whose logits are then the result; or None.
    first_norm: one more norm before the layers, as CLIP has.
    activation: see `Block`.
    mean, deviation: of each colour from 0 to 1, which the pixels are normalized by.
    patch_dropout: the share of the patches of each image that training leaves out (FLIP, Li et al.,
      2023, section 3); acts iff a "dropout" key is given.
    dtype: of the activations; parameters, norms and softmax are float32.
    layers, remat: see `Stack`.
  """

  image_size: int
  patch: int
  width: int
  depth: int
  heads: int
  hidden: int | None = None
  pool: str = "class"
  representation: int | None = None
  classes: int | None = None
  first_norm: bool = False
  activation: str = "gelu"
  epsilon: float = 1e-5
  mean: tuple[float, ...] = (0.5, 0.5, 0.5)
  deviation: tuple[float, ...] = (0.5, 0.5, 0.5)
  patch_dropout: float = 0.0
  dtype: str = "float32"
  layers: str = "auto"
  remat: str = "none"

  def setup(self):
    check(self)
    init = nn.initializers.normal(self.width**-0.5)
    self.embed = project("BLP,PD->BLD", D=self.width, bias=not self.first_norm)
    length = (self.image_size // self.patch) ** 2
    if self.pool == "class":
      self.class_token = weight(self, "class", init, "D", {"D": self.width})
      length += 1
    self.embed_positions = LearnedPositions(length, self.width, init, letter=".")
    if self.first_norm:
      self.norm = LayerNorm(self.epsilon)
    self.blocks = stack(self)
    self.final_norm = LayerNorm(self.epsilon)
    if self.pool == "attention":
      self.query = weight(self, "query", init, "D", {"D": self.width})
      self.attention = Attention(self.heads)
      self.mlp_norm = LayerNorm(self.epsilon)
      self.mlp = MLP(self.hidden or 4 * self.width, self.activation)
    if self.representation is not None:
      self.represent = project("BD,DE->BE", E=self.representation, bias=True)
    if self.classes is not None:
      zeros = nn.initializers.zeros  # as section 3.2 has it
      self.classify = project("BD,DC->BC", C=self.classes, bias=True, init=zeros)

  def __call__(self, image_BYXC: Array) -> Array:
    """(B, Y, X, C) from 0 to 255 -> (B, D), or the logits of the classes, float32."""
    size = (self.image_size, self.image_size, len(self.mean))
    if image_BYXC.shape[1:] != size:
      raise UserError(
        f"the model takes images of {size} rows, columns and colours, not {image_BYXC.shape[1:]}; "
        "give data and model the same image_size."
      )
    patch_BLP, place_BL = self._kept(patches(image_BYXC, self.patch))
    x_BLD = self.embed(self._normalized(patch_BLP))
    if self.pool == "class":
      B, _, D = x_BLD.shape
      token_D = gather(self.class_token, "D", jnp.float32).astype(self.dtype)
      x_BLD = jnp.concatenate([jnp.broadcast_to(token_D, (B, 1, D)), x_BLD], axis=1)
      place_BL = jnp.pad(place_BL + 1, ((0, 0), (1, 0)))
    x_BLD = (x_BLD + self.embed_positions(place_BL)).astype(self.dtype)
    if self.first_norm:
      x_BLD = self.norm(x_BLD)
    x_BD = self._pooled(climb(self.blocks, x_BLD, causal=False))
    if self.representation is not None:
      x_BD = jnp.tanh(self.represent(x_BD))
    return x_BD if self.classes is None else self.classify(x_BD).astype(jnp.float32)

  def _kept(self, patch_BLP: Array) -> tuple[Array, Array]:
    """The patches that are looked at, as many of each image, and their places (B, L) or (1, L)."""
    B, L, _ = patch_BLP.shape
    if not self.patch_dropout or not self.has_rng("dropout") or self.is_initializing():
      return patch_BLP, jnp.arange(L)[None]
    kept = max(1, L - int(L * self.patch_dropout))
    chances_BL = jax.random.uniform(self.make_rng("dropout"), (B, L))
    place_BL = jnp.sort(jnp.argsort(chances_BL, axis=1)[:, :kept], axis=1)
    return jnp.take_along_axis(patch_BLP, place_BL[:, :, None], axis=1), place_BL

  def _normalized(self, patch_BLP: Array) -> Array:
    """A patch's values are pixel by pixel, each colour by colour."""
    pixels = self.patch**2
    mean_P, deviation_P = (jnp.tile(jnp.array(x), pixels) for x in (self.mean, self.deviation))
    return ((patch_BLP / 255.0 - mean_P) / deviation_P).astype(self.dtype)

  def _pooled(self, x_BLD: Array) -> Array:
    if self.pool == "class":
      return self.final_norm(x_BLD[:, 0])
    x_BLD = self.final_norm(x_BLD)
    if self.pool == "mean":
      return jnp.mean(x_BLD, axis=1, dtype=jnp.float32).astype(self.dtype)
    query_D = gather(self.query, "D", jnp.float32).astype(self.dtype)
    x_B1D = self.attention(jnp.broadcast_to(query_D, x_BLD[:, :1].shape), x_BLD)
    return (x_B1D + self.mlp(self.mlp_norm(x_B1D)))[:, 0]


def patches(image_BYXC: Array, patch: int) -> Array:
  """(B, Y, X, C) -> (B, L, P): patches from the top left by rows, a patch's values likewise."""
  B, Y, X, C = image_BYXC.shape
  rows, columns = Y // patch, X // patch
  grid = image_BYXC.reshape(B, rows, patch, columns, patch, C).swapaxes(2, 3)
  return grid.reshape(B, rows * columns, patch * patch * C)


def check(model: ViT) -> None:
  """Raises a UserError where the numbers of a model do not fit one another."""
  choices = {"activation": ACTIVATIONS, "dtype": DTYPES, "layers": LAYERS, "remat": REMAT}
  one_of(model, {"pool": POOLS, **choices})
  positive(model, "image_size", "patch", "width", "depth", "heads")
  divides("patch", model.patch, "image_size", model.image_size)
  divides("heads", model.heads, "width", model.width)
  if not 0 <= model.patch_dropout < 1:
    raise UserError(
      f"patch_dropout={model.patch_dropout} is a share of the patches: from 0 to below 1."
    )
  if len(model.mean) != len(model.deviation):
    raise UserError(
      f"mean has {len(model.mean)} colours and deviation {len(model.deviation)}; give as many."
    )
