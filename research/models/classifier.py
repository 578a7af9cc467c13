"""A classifier of texts and pairs: an encoder, and a linear layer on its pooled vector.

Devlin et al., 2018, section 4.1 and figure 4 (a, b): the pooled vector is that of [CLS].
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from research.models.bert import STANDARD_DEVIATION
from research.models.checks import positive
from research.nn.layers import Dropout, project


class Classifier(nn.Module):
  """From a row of one or two segments to a score of every label.

  Attributes:
    body: an encoder with `encode` and `pool`, such as `BERT`; its parameters are `body/...`.
    labels: how many there are.
    dropout: of the pooled vector, 0.1 in the paper's code.
  """

  body: nn.Module
  labels: int
  dropout: float = 0.0

  def setup(self):
    positive(self, "labels")
    self.drop = Dropout(self.dropout)
    init = nn.initializers.truncated_normal(STANDARD_DEVIATION)
    self.head = project("BE,EC->BC", C=self.labels, bias=True, init=init)

  def __call__(self, tokens_BL: Array, segments_BL: Array | None = None) -> Array:
    """Float32 logits of the labels, (B, C)."""
    pooled_BE = self.body.pool(self.body.encode(tokens_BL, segments_BL))
    return self.head(self.drop(pooled_BE)).astype(jnp.float32)

  @property
  def vocab_size(self) -> int:
    return self.body.vocab_size

  @property
  def max_length(self) -> int:
    return self.body.max_length
