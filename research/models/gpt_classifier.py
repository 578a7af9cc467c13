"""A decoder as a classifier: it reads delimiters, and goes on predicting words.

Radford et al., 2018, sections 3.2 and 3.3, figure 1: start, text, (delimiter, text,) extract; the
state of the extract token is what is classified.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from research.models.checks import positive
from research.models.gpt import STANDARD_DEVIATION
from research.nn.layers import Dropout, project


class GPTClassifier(nn.Module):
  """From a row that ends in the extract token to a score of every label.

  Attributes:
    body: a decoder with `encode` and `table`, such as `GPT`; its parameters are `body/...`.
    labels: how many there are.
    dropout: of the classified state, 0.1 in the paper.
  """

  body: nn.Module
  labels: int
  dropout: float = 0.0

  def setup(self):
    positive(self, "labels")
    self.drop = Dropout(self.dropout)
    init = nn.initializers.normal(STANDARD_DEVIATION)
    self.head = project("BD,DC->BC", C=self.labels, bias=True, init=init)

  def __call__(self, tokens_BL: Array, segments_BL: Array | None = None) -> Array:
    """Float32 logits of the labels, (B, C)."""
    if segments_BL is None:
      segments_BL = jnp.ones_like(tokens_BL)
    return self.classify(self.encode(tokens_BL, segments_BL), segments_BL)

  def encode(self, tokens_BL: Array, segments_BL: Array) -> Array:
    """The last states, (B, L, D); both texts of a pair are one document."""
    return self.body.encode(tokens_BL, jnp.minimum(segments_BL, 1))

  def classify(self, x_BLD: Array, segments_BL: Array) -> Array:
    """Float32 logits (B, C), of the state of each row's last token."""
    last_B = jnp.maximum(jnp.sum(segments_BL > 0, axis=1) - 1, 0)
    state_BD = jnp.take_along_axis(x_BLD, last_B[:, None, None], axis=1)[:, 0]
    return self.head(self.drop(state_BD)).astype(jnp.float32)

  def table(self) -> Array:
    """(V, D) float32: a row predicts its word."""
    return self.body.table()

  @property
  def vocab_size(self) -> int:
    return self.body.vocab_size

  @property
  def max_length(self) -> int:
    return self.body.max_length
