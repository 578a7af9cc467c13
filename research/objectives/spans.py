"""The loss of a span: where an answer begins, and where it ends."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from research.metrics import Mean, Metrics
from research.objectives.classification import nats, there

BEST = 20  # spans of a row that are looked at further, as in the authors' code


@dataclasses.dataclass(frozen=True)
class Span:
  """Find the first and the last token of an answer (Devlin et al., 2018, sections 4.2 and 4.3).

  The model gives two logits (B, L). Place 0 for both says that the row has no answer.

  Attributes:
    longest: tokens of an answer that is predicted; 30 in the authors' code.
  """

  longest: int = 30

  def __call__(self, model: Any, batch: dict[str, Any]) -> Metrics:
    """Per row, of which a long text has several:

    loss: nats, the mean of -log p of both places.
    accuracy: whether both were the likeliest.
    """
    first_BL, last_BL = model(batch["tokens"], batch["segments"])
    weights_B = there(batch)
    nats_B = (nats(first_BL, batch["first"]) + nats(last_BL, batch["last"])) / 2
    correct_B = jnp.argmax(first_BL, axis=-1) == batch["first"]
    correct_B &= jnp.argmax(last_BL, axis=-1) == batch["last"]
    return {
      "loss": Mean.of(nats_B, weights_B),
      "accuracy": Mean.of(correct_B, weights_B),
    }

  def predict(self, model: Any, batch: dict[str, Any]) -> dict[str, Array]:
    """The best spans of every row, and no answer:

    scores, first, last: (B, N) the best first; a score is log p of both places.
    null: (B,) the score of no answer.
    """
    first_BL, last_BL = map(jax.nn.log_softmax, model(batch["tokens"], batch["segments"]))
    L = first_BL.shape[1]
    places_L = jnp.arange(L)
    length_LL = places_L - places_L[:, None] + 1
    fits_LL = (length_LL >= 1) & (length_LL <= self.longest) & (places_L[:, None] > 0)
    # [SEP] behind the text is of its segment, and no answer.
    inside_BL = places_L < jnp.sum(batch["segments"] > 0, axis=1, keepdims=True) - 1
    inside_BL &= batch["segments"] == 2
    scores_BLL = first_BL[:, :, None] + last_BL[:, None, :]
    possible_BLL = fits_LL & inside_BL[:, :, None] & inside_BL[:, None, :]
    scores_BS = jnp.where(possible_BLL, scores_BLL, -jnp.inf).reshape(len(first_BL), -1)
    best_BN, at_BN = jax.lax.top_k(scores_BS, min(BEST, L * L))
    return {
      "scores": best_BN,
      "first": at_BN // L,
      "last": at_BN % L,
      "null": first_BL[:, 0] + last_BL[:, 0],
    }
