"""A reader that answers a question by a span of a text, or says that the text has no answer.

Devlin et al., 2018, sections 4.2 and 4.3: the question is the first segment and the text the
second; an answer that is not there begins and ends at [CLS].
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from research.models.bert import STANDARD_DEVIATION
from research.nn.layers import project

NOWHERE = -1e9  # the logit of a place where no answer can be


class Reader(nn.Module):
  """From a question and a text to where the answer begins and ends.

  Attributes:
    body: an encoder with `encode`, such as `BERT`; its parameters are `body/...`.
  """

  body: nn.Module

  def setup(self):
    init = nn.initializers.truncated_normal(STANDARD_DEVIATION)
    self.head = project("BLD,DC->BLC", C=2, bias=True, init=init)

  def __call__(self, tokens_BL: Array, segments_BL: Array | None = None) -> tuple[Array, Array]:
    """Float32 logits of the first and of the last token of the answer, (B, L) each.

    It lies in the second segment, or is place 0; elsewhere the logits are `NOWHERE`.
    """
    logits_BLC = self.head(self.body.encode(tokens_BL, segments_BL)).astype(jnp.float32)
    if segments_BL is not None:
      possible_BL = (segments_BL == 2) | (jnp.arange(tokens_BL.shape[1]) == 0)
      logits_BLC = jnp.where(possible_BL[..., None], logits_BLC, NOWHERE)
    return logits_BLC[..., 0], logits_BLC[..., 1]

  @property
  def vocab_size(self) -> int:
    return self.body.vocab_size

  @property
  def max_length(self) -> int:
    return self.body.max_length
