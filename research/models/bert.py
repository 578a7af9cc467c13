"""BERT: an encoder that reads a pair of segments from both sides (Devlin et al., 2018).

RoBERTa (Liu et al., 2019) is position_offset=2, segment_types=1, epsilon=1e-5, and no second head.

Its two heads predict words that were masked, and whether the second segment follows the first. T
stands for the places of a row at which words are predicted.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from research.errors import UserError
from research.models.checks import DTYPES, divides, one_of, positive
from research.nn.cross_entropy import unembed
from research.nn.layers import Dropout, Embed, Initializer, LayerNorm, project, weight
from research.nn.masks import padding
from research.nn.positions import LearnedPositions
from research.nn.stack import LAYERS, REMAT, Stack
from research.nn.transformer import ACTIVATIONS, GATED, Block
from research.sharding import constrain

STANDARD_DEVIATION = 0.02  # of all initial weights, cut at two of them: the authors' code
UNGATED = tuple(name for name in ACTIVATIONS if name not in GATED)


class BERT(nn.Module):
  """From a row of tokens to a state of each that knows all the others.

  Attributes:
    vocab_size, max_length: sizes of the tables; longer sequences are an error.
    width, depth, heads: of the states, the stack and each layer's attention.
    hidden: width of the MLP; 4 width where not given.
    segment_types: how many kinds of segments there are, 2 in a pair.
    position_offset: None for positions that are places in the row. A number for positions that
      count the tokens which are no padding, the first token having this one (2 in RoBERTa).
    tied: whether the table of the embedding also predicts.
    activation: of the MLPs and of the head that predicts words, one of `UNGATED`.
    dropout: of embeddings, attention weights and residual branches.
    epsilon: of the norms.
    dtype: of the activations; parameters, norms, softmax and logits are float32.
    layers, remat: see `Stack`.
  """

  vocab_size: int
  max_length: int
  width: int
  depth: int
  heads: int
  hidden: int | None = None
  segment_types: int = 2
  position_offset: int | None = None
  tied: bool = True
  activation: str = "gelu_exact"
  dropout: float = 0.0
  epsilon: float = 1e-12
  dtype: str = "float32"
  layers: str = "auto"
  remat: str = "none"

  def setup(self):
    check(self)
    init = nn.initializers.truncated_normal(STANDARD_DEVIATION)
    block = Block(
      heads=self.heads,
      hidden=self.hidden or 4 * self.width,
      norm_position="post",
      activation=self.activation,
      dropout=self.dropout,
      epsilon=self.epsilon,
      kernel_init=init,
      out_init=init,
      parent=None,
    )
    self.embed = Embed(self.vocab_size, self.width, init, self.dtype)
    self.embed_segments = LearnedPositions(self.segment_types, self.width, init, letter=".")
    # A length and two more divides by nothing.
    rows = self.max_length + (self.position_offset or 0)
    letter = "." if self.position_offset else "L"
    self.embed_positions = LearnedPositions(rows, self.width, init, letter=letter)
    self.embed_norm = LayerNorm(self.epsilon)
    self.drop = Dropout(self.dropout)
    self.blocks = Stack((block,), self.depth, self.layers, self.remat)
    self.pooler = project("BD,DE->BE", E=self.width, bias=True, init=init)
    self.next_sentence_head = project("BE,EC->BC", C=2, bias=True, init=init)
    self.word_head = WordHead(self.vocab_size, self.activation, self.epsilon, init)
    if not self.tied:
      self.unembed = Embed(self.vocab_size, self.width, init, self.dtype)

  def __call__(self, tokens_BL: Array, segments_BL: Array | None = None) -> tuple[Array, Array]:
    """Logits of the word at every place, (B, L, V), and of the next sentence, (B, 2); float32."""
    x_BLD = self.encode(tokens_BL, segments_BL)
    states_BLE, bias_V = self.word_head(x_BLD)
    return unembed(states_BLE, self.table(), bias_V), self.next_sentence(x_BLD)

  def encode(self, tokens_BL: Array, segments_BL: Array | None = None) -> Array:
    """The last states, (B, L, D).

    Args:
      tokens_BL: int32, L at most `max_length`.
      segments_BL: int32, 1 in the first segment and 2 in the second; 0 is padding, which nobody
        sees. All are in the first where not given.
    """
    if tokens_BL.shape[1] > self.max_length:
      raise UserError(
        f"a sequence of {tokens_BL.shape[1]} tokens is longer than the model's "
        f"max_length={self.max_length}; shorten the data's length, or raise max_length."
      )
    if segments_BL is None:
      segments_BL = jnp.ones_like(tokens_BL)
    x_BLD = self.embed(tokens_BL) + self.embed_positions(self._positions(segments_BL))
    x_BLD += self.embed_segments(jnp.clip(segments_BL - 1, 0, self.segment_types - 1))
    x_BLD = self.drop(self.embed_norm(x_BLD).astype(self.dtype))
    mask = padding(segments_BL, tokens_BL.shape[1])
    return self.blocks(constrain(x_BLD, "BLD"), mask)

  def _positions(self, segments_BL: Array) -> Array:
    if self.position_offset is None:
      return jnp.broadcast_to(jnp.arange(segments_BL.shape[1]), segments_BL.shape)
    counted_BL = jnp.cumsum(segments_BL > 0, axis=1) - 1
    return self.position_offset + jnp.maximum(counted_BL, 0)

  def words(self, x_BLD: Array, places_BT: Array) -> tuple[Array, Array]:
    """What predicts the words at some places: states (B, T, E), and a bias (V,) of all words.

    A word's logit is the product of the state with its row of `table()`, and its bias.
    """
    return self.word_head(jnp.take_along_axis(x_BLD, places_BT[..., None], axis=1))

  def next_sentence(self, x_BLD: Array) -> Array:
    """Float32 logits, (B, 2): the second segment follows the first, or it is a random one."""
    return self.next_sentence_head(self.pool(x_BLD)).astype(jnp.float32)

  def pool(self, x_BLD: Array) -> Array:
    """One vector for each row, (B, E), made of the state of its first token."""
    return jnp.tanh(self.pooler(x_BLD[:, 0]))

  def table(self) -> Array:
    """(V, D) float32: a row predicts its word."""
    return self.embed.table if self.tied else self.unembed.table


class WordHead(nn.Module):
  """From the states of the last layer to states that look like embeddings of words."""

  vocab_size: int
  activation: str
  epsilon: float
  kernel_init: Initializer

  @nn.compact
  def __call__(self, x_BTD: Array) -> tuple[Array, Array]:
    """(B, T, D) -> (B, T, E), and the bias of every word, (V,) float32."""
    E = x_BTD.shape[-1]
    dense = project("BLD,DE->BLE", E=E, bias=True, init=self.kernel_init, name="dense")
    x_BTE = ACTIVATIONS[self.activation](dense(x_BTD).astype(jnp.float32))
    x_BTE = LayerNorm(self.epsilon, letter="E", name="norm")(x_BTE).astype(x_BTD.dtype)
    return x_BTE, weight(self, "bias", nn.initializers.zeros, "V", {"V": self.vocab_size})


def check(model: BERT) -> None:
  """Raises a UserError where the numbers of a model do not fit one another."""
  one_of(model, {"activation": UNGATED, "dtype": DTYPES, "layers": LAYERS, "remat": REMAT})
  positive(model, "vocab_size", "max_length", "width", "depth", "heads", "segment_types")
  if not 0 <= model.dropout < 1:
    raise UserError(f"dropout={model.dropout} is a probability: choose one in [0, 1).")
  divides("heads", model.heads, "width", model.width)
