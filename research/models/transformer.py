"""The encoder-decoder, whose numbers give the Transformer, T5, Marian and BART.

Transformer  the defaults                                              Vaswani et al., 2017
T5           norm="rms", norm_position="pre", positions="relative", bias=False,
             scale_embedding=False, scale_scores=False, scale_states=True, epsilon=1e-6
             Raffel et al., 2019
T5 1.1, mT5  as T5, with activation="geglu", tied=False, scale_states=False
             Shazeer, 2020; Xue et al., 2020
Marian       activation="swish", word_bias=True                        Junczys-Dowmunt et al., 2018
BART         activation="gelu_exact", positions="learned", position_offset=2, embed_norm=True,
             scale_embedding=False, word_bias=True                     Lewis et al., 2019

M stands for the length of the source, L for that of the target.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from research.errors import UserError
from research.models.checks import DTYPES, divides, one_of, positive
from research.nn.cross_entropy import unembed
from research.nn.history import History
from research.nn.layers import Dropout, Embed, weight
from research.nn.masks import Mask, padding, positions_in_segments
from research.nn.positions import LearnedPositions, RelativeBias, sinusoidal
from research.nn.stack import LAYERS, REMAT, Stack
from research.nn.transformer import ACTIVATIONS, NORM_POSITIONS, NORMS, Block
from research.sharding import constrain

POSITIONS = ("sinusoidal", "learned", "relative")


class Transformer(nn.Module):
  """From a source, and a target so far, to a prediction of the target's next token everywhere.

  Attributes:
    vocab_size: of the target, and of the source too where they share one table.
    max_length: of a source and of a target; longer sequences are an error.
    width, depth, heads: of the states, of the encoder and of each layer's attention.
    decoder_depth: layers of the decoder; `depth` where not given.
    source_vocab_size: of a table of its own for the source; None shares the target's.
    hidden: width of the MLPs; 4 width where not given.
    key_size: of one head; the width divided by `heads` where not given.
    norm, norm_position, activation: see `Block`. A "pre" stack ends in one more norm.
    positions: "sinusoidal" or "learned" are added to the embeddings; "relative" are biases of the
      scores, one table for all layers of the encoder and one for those of the decoder.
    position_offset: the row of the first position (2 in BART).
    buckets, farthest: of relative positions, see `RelativeBias`.
    embed_norm: a norm of the embeddings.
    tied: whether the target's embedding also predicts.
    word_bias: a number for each word is added to the logits.
    bias: of all projections.
    scale_embedding: embeddings of tokens are multiplied by sqrt(width).
    scale_scores: scores of attention are divided by sqrt(key size).
    scale_states: the last states are divided by sqrt(width) before they predict.
    dropout: of embeddings and residual branches.
    attention_dropout: of the attention weights.
    epsilon: of the norms.
    dtype: of the activations; parameters, norms, softmax and logits are float32.
    layers, remat: see `Stack`.
  """

  vocab_size: int
  max_length: int
  width: int
  depth: int
  heads: int
  decoder_depth: int | None = None
  source_vocab_size: int | None = None
  hidden: int | None = None
  key_size: int | None = None
  norm: str = "layer"
  norm_position: str = "post"
  activation: str = "relu"
  positions: str = "sinusoidal"
  position_offset: int = 0
  buckets: int = 32
  farthest: int = 128
  embed_norm: bool = False
  tied: bool = True
  word_bias: bool = False
  bias: bool = True
  scale_embedding: bool = True
  scale_scores: bool = True
  scale_states: bool = False
  dropout: float = 0.0
  attention_dropout: float = 0.0
  epsilon: float = 1e-5
  dtype: str = "float32"
  layers: str = "auto"
  remat: str = "none"

  def setup(self):
    check(self)
    init = nn.initializers.normal(self.width**-0.5)
    # Embeddings that nothing scales are as large as states where nothing else needs them small.
    alone = not self.scale_embedding and (self.scale_states or not self.tied)
    embed_init = nn.initializers.normal(1.0) if alone else init
    table = functools.partial(Embed, width=self.width, dtype=self.dtype)
    norm = functools.partial(NORMS[self.norm], self.epsilon)
    block = Block(
      heads=self.heads,
      key_size=self.key_size,
      hidden=self.hidden or 4 * self.width,
      norm=self.norm,
      norm_position=self.norm_position,
      activation=self.activation,
      bias=self.bias,
      scaled=self.scale_scores,
      dropout=self.dropout,
      attention_dropout=self.attention_dropout,
      epsilon=self.epsilon,
      parent=None,
    )
    self.embed = table(self.vocab_size, table_init=embed_init)
    if self.source_vocab_size is not None:
      self.embed_source = table(self.source_vocab_size, table_init=embed_init)
    if self.positions == "learned":
      rows = self.max_length + self.position_offset
      self.source_positions, self.target_positions = (
        LearnedPositions(rows, self.width, letter=".") for _ in range(2)
      )
    if self.positions == "relative":
      self.encoder_bias, self.decoder_bias = (
        RelativeBias(self.heads, self.buckets, self.farthest, init) for _ in range(2)
      )
    if self.embed_norm:
      self.source_norm, self.target_norm = norm(), norm()
    self.drop = Dropout(self.dropout)
    self.encoder = Stack((block,), self.depth, self.layers, self.remat)
    self.history = History(self.max_length)
    self.decoder = Stack((block,), self.decoder_depth or self.depth, self.layers, self.remat)
    if self.norm_position == "pre":
      self.encoder_norm, self.decoder_norm = norm(), norm()
    if not self.tied:
      self.unembed = table(self.vocab_size, table_init=init)
    if self.word_bias:
      sizes = {"V": self.vocab_size}
      self.bias_V = weight(self, "word_biases", nn.initializers.zeros, "V", sizes)

  def __call__(
    self,
    source_BM: Array,
    tokens_BL: Array,
    source_segments_BM: Array | None = None,
    segments_BL: Array | None = None,
  ) -> Array:
    """Logits of the target's next token, (B, L, V) float32; see `encode` and `decode`."""
    memory_BMD = self.encode(source_BM, source_segments_BM)
    x_BLD = self.decode(tokens_BL, memory_BMD, source_segments_BM, segments_BL)
    return unembed(x_BLD, self.table(), self.biases())

  def encode(
    self, source_BM: Array, segments_BM: Array | None = None, positions_BM: Array | None = None
  ) -> Array:
    """The last states of the encoder, (B, M, D): what the decoder looks at.

    Args:
      source_BM: int32, M at most `max_length`.
      segments_BM: int32, the text of each token from 1; 0 is padding. One where not given.
      positions_BM: int32, the position of each token in its text; counted where not given.
    """
    self._check_length("source", source_BM)
    M = source_BM.shape[1]
    mask = Mask(segments_BL=segments_BM)
    if positions_BM is None and segments_BM is None:
      positions_BM = _count(M)
    elif positions_BM is None:
      before = Mask(causal=True, segments_BL=segments_BM)
      positions_BM = positions_in_segments(before, M, M)
    embed = self.embed if self.source_vocab_size is None else self.embed_source
    x_BMD = self._enter("source", embed(source_BM), positions_BM)
    bias_BHMM = self.encoder_bias(mask, M, M) if self.positions == "relative" else None
    x_BMD = self.encoder(x_BMD, mask, None, None, None, bias_BHMM)
    return self.encoder_norm(x_BMD) if self.norm_position == "pre" else x_BMD

  def decode(
    self,
    tokens_BL: Array,
    memory_BMD: Array,
    source_segments_BM: Array | None = None,
    segments_BL: Array | None = None,
    positions_BL: Array | None = None,
  ) -> Array:
    """The last states of the decoder, (B, L, D), which predict the token after each.

    While a "cache" collection is mutable, keys and values of the target so far are kept, and those
    of the memory, which is then looked at only once.

    Args:
      tokens_BL: int32, the target, led by a token that begins it; L at most `max_length`.
      memory_BMD: the source, as `encode` returns it.
      source_segments_BM: as given to `encode`. A target sees the source of its own number.
      segments_BL, positions_BL: of the target, as those of the source in `encode`.
    """
    self._check_length("target", tokens_BL)
    L = tokens_BL.shape[1]
    memory_mask = Mask()
    if source_segments_BM is not None and segments_BL is None:
      memory_mask = padding(source_segments_BM, L)
    elif source_segments_BM is not None:
      memory_mask = Mask(segments_BL=segments_BL, memory_segments_BM=source_segments_BM)
    mask, positions_BL = self.history(tokens_BL.shape, segments_BL, positions_BL)
    x_BLD = self._enter("target", self.embed(tokens_BL), positions_BL)
    bias_BHLL = None
    if self.positions == "relative":
      slots = L if mask.offset is None else mask.memory_segments_BM.shape[1]
      bias_BHLL = self.decoder_bias(mask, L, slots)
    x_BLD = self.decoder(x_BLD, mask, None, memory_BMD, memory_mask, bias_BHLL)
    if self.norm_position == "pre":
      x_BLD = self.decoder_norm(x_BLD)
    return x_BLD * self.width**-0.5 if self.scale_states else x_BLD

  def table(self) -> Array:
    """(V, D) float32: a state's logits are its products with these rows, and the `biases`."""
    return self.embed.table if self.tied else self.unembed.table

  def biases(self) -> Array | None:
    """(V,) float32, or None where there are none."""
    return self.bias_V if self.word_bias else None

  def _enter(self, side: str, x_BLD: Array, positions_BL: Array) -> Array:
    """Embedded tokens of a side, with their positions, as the first layer takes them."""
    if self.scale_embedding:
      x_BLD *= self.width**0.5
    if self.positions == "learned":
      x_BLD += getattr(self, f"{side}_positions")(positions_BL + self.position_offset)
    if self.positions == "sinusoidal":
      places_L = jnp.arange(self.max_length + self.position_offset)
      x_BLD += sinusoidal(places_L, self.width)[positions_BL + self.position_offset]
    if self.embed_norm:
      x_BLD = getattr(self, f"{side}_norm")(x_BLD)
    return constrain(self.drop(x_BLD.astype(self.dtype)), "BLD")

  def _check_length(self, side: str, tokens_BL: Array) -> None:
    if tokens_BL.shape[1] > self.max_length:
      raise UserError(
        f"a {side} of {tokens_BL.shape[1]} tokens is longer than the model's "
        f"max_length={self.max_length}; shorten the data's length, or raise max_length."
      )


def check(model: Transformer) -> None:
  """Raises a UserError where the numbers of a model do not fit one another."""
  choices = {"norm": NORMS, "norm_position": NORM_POSITIONS, "positions": POSITIONS}
  one_of(model, {**choices, "activation": ACTIVATIONS, "dtype": DTYPES})
  one_of(model, {"layers": LAYERS, "remat": REMAT})
  positive(model, "vocab_size", "max_length", "width", "depth", "heads")
  for field in ("dropout", "attention_dropout"):
    if not 0 <= getattr(model, field) < 1:
      raise UserError(f"{field}={getattr(model, field)} is a probability: choose one in [0, 1).")
  if model.key_size is None:
    divides("heads", model.heads, "width", model.width)
  if model.positions == "sinusoidal" and model.width % 2:
    raise UserError(f"width={model.width}: sines and cosines of positions need an even width.")
  if model.positions == "relative" and (model.buckets < 4 or model.buckets % 4):
    raise UserError(f"buckets={model.buckets} are halved twice; choose a multiple of 4.")
  if model.positions == "relative" and model.farthest <= model.buckets // 2:
    raise UserError(
      f"farthest={model.farthest}: {model.buckets // 2} distances have buckets of their own; "
      f"choose more than that, or fewer buckets than {model.buckets}."
    )


def _count(L: int) -> Array:
  return jnp.arange(L)[None]
