"""A tagger of tokens: an encoder, and a linear layer on every state.

Devlin et al., 2018, section 5.3 and figure 4 (d).
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from research.models.bert import STANDARD_DEVIATION
from research.models.checks import positive
from research.nn.layers import Dropout, project


class Tagger(nn.Module):
  """From a row of tokens to a score of every tag at each of them.

  Attributes:
    body: an encoder with `encode`, such as `BERT`; its parameters are `body/...`.
    tags: how many there are.
    dropout: of the states, 0.1 in the paper.
  """

  body: nn.Module
  tags: int
  dropout: float = 0.0

  def setup(self):
    positive(self, "tags")
    self.drop = Dropout(self.dropout)
    init = nn.initializers.truncated_normal(STANDARD_DEVIATION)
    self.head = project("BLD,DC->BLC", C=self.tags, bias=True, init=init)

  def __call__(self, tokens_BL: Array, segments_BL: Array | None = None) -> Array:
    """Float32 logits of the tags, (B, L, C)."""
    x_BLD = self.drop(self.body.encode(tokens_BL, segments_BL))
    return self.head(x_BLD).astype(jnp.float32)

  @property
  def vocab_size(self) -> int:
    return self.body.vocab_size

  @property
  def max_length(self) -> int:
    return self.body.max_length
