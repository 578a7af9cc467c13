"""One decoder whose numbers give GPT-1, GPT-2, GPT-3 and the modern decoder (Llama).

GPT-1   norm_position="post"                                  Radford et al., 2018
GPT-2   the defaults                                          Radford et al., 2019
GPT-3   windows=(None, 128): dense and banded layers in turn  Brown et al., 2020, section 2.1
modern  norm="rms", positions="rotary", activation="swiglu", bias=False, tied=False, kv_heads=...
        Touvron et al., 2023
"""

import flax.linen as nn
from jax import Array

from research.errors import UserError
from research.models.checks import DTYPES, divides, one_of, positive
from research.nn.cross_entropy import unembed
from research.nn.history import History
from research.nn.layers import Dropout, Embed
from research.nn.positions import LearnedPositions
from research.nn.rotary import Scaling
from research.nn.stack import LAYERS, REMAT, Stack
from research.nn.transformer import ACTIVATIONS, GATED, NORM_POSITIONS, NORMS, Block
from research.sharding import constrain

POSITIONS = ("learned", "rotary")
STANDARD_DEVIATION = 0.02  # of all initial weights: GPT-1, section 4.1


class GPT(nn.Module):
  """A decoder: from the tokens so far to a prediction of the next one, at every position.

  Attributes:
    vocab_size, max_length: sizes of the tables; longer sequences are an error.
    width, depth, heads: of the states, the stack and each layer's attention.
    kv_heads: key/value heads, each shared by heads / kv_heads queries; `heads` where not given.
    key_size: of one head; width / heads where not given.
    hidden: width of the MLP; 4 width where not given, or for a gated one 8/3 width, rounded up to
      a multiple of 64, which is as many parameters.
    norm, norm_position, activation: see `Block`. A "pre" stack ends in one more norm.
    positions: "learned" or "rotary".
    rotary_base: of the wavelengths of rotary positions.
    rotary_scaling: how these are stretched, see `nn/rotary.py`.
    tied: whether the table of the embedding also predicts.
    bias: of all projections.
    qkv_bias, out_bias, qk_norm: of the attention, see `Block`.
    dropout: of embeddings, attention weights and residual branches.
    windows: the band of each layer in turn; None sees all.
    dtype: of the activations; parameters, norms, softmax and logits are float32.
    layers, remat: see `Stack`.
  """

  vocab_size: int
  max_length: int
  width: int
  depth: int
  heads: int
  kv_heads: int | None = None
  key_size: int | None = None
  hidden: int | None = None
  norm: str = "layer"
  norm_position: str = "pre"
  positions: str = "learned"
  rotary_base: float = 10_000.0
  rotary_scaling: Scaling | None = None
  activation: str = "gelu"
  tied: bool = True
  bias: bool = True
  qkv_bias: bool | None = None
  out_bias: bool | None = None
  qk_norm: bool = False
  dropout: float = 0.0
  epsilon: float = 1e-5
  windows: tuple[int | None, ...] = ()
  dtype: str = "float32"
  layers: str = "auto"
  remat: str = "none"

  def setup(self):
    check(self)
    init = nn.initializers.normal(STANDARD_DEVIATION)
    # GPT-2, section 2.3: the residual stream should not grow with depth.
    residual = 1 / (2 * self.depth) ** 0.5 if self.norm_position == "pre" else 1.0
    out_init = nn.initializers.normal(STANDARD_DEVIATION * residual)
    blocks = tuple(
      Block(
        heads=self.heads,
        kv_heads=self.kv_heads,
        key_size=self.key_size,
        hidden=hidden(self),
        norm=self.norm,
        norm_position=self.norm_position,
        activation=self.activation,
        rotary=self.rotary_base if self.positions == "rotary" else None,
        rotary_scaling=self.rotary_scaling,
        window=window,
        bias=self.bias,
        qkv_bias=self.qkv_bias,
        out_bias=self.out_bias,
        qk_norm=self.qk_norm,
        dropout=self.dropout,
        epsilon=self.epsilon,
        kernel_init=init,
        out_init=out_init,
        parent=None,
      )
      for window in self.windows or (None,)
    )
    self.history = History(self.max_length)
    self.embed = Embed(self.vocab_size, self.width, init, self.dtype)
    if self.positions == "learned":
      self.embed_positions = LearnedPositions(self.max_length, self.width, table_init=init)
    self.drop = Dropout(self.dropout)
    self.blocks = Stack(blocks, self.depth, self.layers, self.remat)
    if self.norm_position == "pre":
      self.final_norm = NORMS[self.norm](self.epsilon)
    if not self.tied:
      self.unembed = Embed(self.vocab_size, self.width, init, self.dtype)

  def __call__(
    self, tokens_BL: Array, segments_BL: Array | None = None, positions_BL: Array | None = None
  ) -> Array:
    """Logits of the next token, (B, L, V) float32; see `encode`."""
    return unembed(self.encode(tokens_BL, segments_BL, positions_BL), self.table())

  def encode(
    self, tokens_BL: Array, segments_BL: Array | None = None, positions_BL: Array | None = None
  ) -> Array:
    """The last states, (B, L, D).

    Args:
      tokens_BL: int32, L at most `max_length`.
      segments_BL: int32, the document of each token from 1; 0 is padding. One where not given.
      positions_BL: int32, the position of each token in its document; counted where not given.
    """
    if tokens_BL.shape[1] > self.max_length:
      raise UserError(
        f"a sequence of {tokens_BL.shape[1]} tokens is longer than the model's "
        f"max_length={self.max_length}; shorten the data's length, or raise max_length."
      )
    mask, positions_BL = self.history(tokens_BL.shape, segments_BL, positions_BL)
    x_BLD = self.embed(tokens_BL)
    if self.positions == "learned":
      x_BLD += self.embed_positions(positions_BL)
    x_BLD = constrain(self.drop(x_BLD.astype(self.dtype)), "BLD")
    x_BLD = self.blocks(x_BLD, mask, positions_BL)
    return self.final_norm(x_BLD) if self.norm_position == "pre" else x_BLD

  def table(self) -> Array:
    """(V, D) float32: a state's logits are its products with these rows."""
    return self.embed.table if self.tied else self.unembed.table


def hidden(model: GPT) -> int:
  """The width of its MLPs."""
  if model.hidden:
    return model.hidden
  if model.activation in GATED:
    return -(-8 * model.width // (3 * 64)) * 64
  return 4 * model.width


def check(model: GPT) -> None:
  """Raises a UserError where the numbers of a model do not fit one another."""
  choices = {"norm": NORMS, "norm_position": NORM_POSITIONS, "positions": POSITIONS}
  one_of(model, {**choices, "activation": ACTIVATIONS, "dtype": DTYPES})
  one_of(model, {"layers": LAYERS, "remat": REMAT})
  positive(model, "vocab_size", "max_length", "width", "depth", "heads")
  if not 0 <= model.dropout < 1:
    raise UserError(f"dropout={model.dropout} is a probability: choose one in [0, 1).")
  if any(window is not None and window < 1 for window in model.windows):
    raise UserError(
      f"windows={model.windows}: each must be at least 1, the token itself, or None for all."
    )
  if model.key_size is None:
    divides("heads", model.heads, "width", model.width)
  if model.kv_heads is not None:
    divides("kv_heads", model.kv_heads, "heads", model.heads)
  if model.positions == "rotary" and (key_size := model.key_size or model.width // model.heads) % 2:
    raise UserError(
      f"rotary positions turn pairs, but width / heads = {key_size} is odd; "
      "choose heads so that it is even."
    )
