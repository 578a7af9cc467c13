"""A classifier of texts and pairs: an encoder, and a linear layer on its pooled vector.

Devlin et al., 2018, section 4.1 and figure 4 (a, b): the pooled vector is that of [CLS]. The mean
of all states serves better where [CLS] has learned nothing before (Reimers and Gurevych, 2019).
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from research.models.bert import STANDARD_DEVIATION
from research.models.checks import one_of, positive
from research.nn.layers import Dropout, project
from research.nn.pooling import mean_state

POOLINGS = ("first", "mean")


class Classifier(nn.Module):
  """From a row of one or two segments to a score of every label.

  Attributes:
    body: an encoder with `encode` and `pool`, such as `BERT`; its parameters are `body/...`.
    labels: how many there are.
    dropout: of the pooled vector, 0.1 in the paper's code.
    pooling: "first", what the body pools from its first state; or the "mean" of all states.
  """

  body: nn.Module
  labels: int
  dropout: float = 0.0
  pooling: str = "first"

  def setup(self):
    positive(self, "labels")
    one_of(self, {"pooling": POOLINGS})
    self.drop = Dropout(self.dropout)
    init = nn.initializers.truncated_normal(STANDARD_DEVIATION)
    self.head = project("BE,EC->BC", C=self.labels, bias=True, init=init)

  def __call__(self, tokens_BL: Array, segments_BL: Array | None = None) -> Array:
    """Float32 logits of the labels, (B, C)."""
    x_BLD = self.body.encode(tokens_BL, segments_BL)
    if self.pooling == "first":
      pooled_BE = self.body.pool(x_BLD)
    else:
      pooled_BE = mean_state(x_BLD, segments_BL).astype(x_BLD.dtype)
    return self.head(self.drop(pooled_BE)).astype(jnp.float32)

  @property
  def vocab_size(self) -> int:
    return self.body.vocab_size

  @property
  def max_length(self) -> int:
    return self.body.max_length
