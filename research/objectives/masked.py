"""What BERT learns from: words that were masked, and whether a segment follows another."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from research.metrics import Mean, Metrics
from research.nn.cross_entropy import CrossEntropy, cross_entropy


@dataclasses.dataclass(frozen=True)
class MaskedToken:
  """Predict the tokens at some places of a row (Devlin et al., 2018, section 3.1, task 1).

  The model has `encode(tokens, segments)`, `words(x, places)` and `table()`.
  """

  def __call__(self, model: Any, batch: dict[str, Any]) -> Metrics:
    """Per predicted token:

    loss, nats: -log p of the token.
    accuracy: whether it was the likeliest.
    """
    x_BLD = model.encode(batch["tokens"], batch["segments"])
    entropy, weights_BT = _masked(model, x_BLD, batch)
    measured = _measured(entropy, weights_BT)
    return {"loss": dataclasses.replace(measured["nats"], total=entropy.total), **measured}


@dataclasses.dataclass(frozen=True)
class MaskedTokenAndNextSentence:
  """Predict tokens, and whether the second segment follows the first (section 3.1, both tasks).

  The model has `next_sentence(x)` besides.
  """

  def __call__(self, model: Any, batch: dict[str, Any]) -> Metrics:
    """Measures:

    loss: nats of a predicted token and of the next sentence of its row, the mean over tokens. So
      rows count by their predictions, and a batch in pieces has the loss of the whole.
    nats, accuracy: of the tokens alone.
    next_sentence_nats, next_sentence_accuracy: of the rows.
    """
    x_BLD = model.encode(batch["tokens"], batch["segments"])
    entropy, weights_BT = _masked(model, x_BLD, batch)
    logits_BC, random_B = model.next_sentence(x_BLD), batch["random"]
    target_BC = jax.nn.one_hot(random_B, 2)
    nats_B = -jnp.sum(jax.nn.log_softmax(logits_BC) * target_BC, axis=-1)
    correct_B = jnp.argmax(logits_BC, axis=-1) == random_B
    row_B = (batch["segments"][:, 0] > 0).astype(jnp.float32)
    both = Mean.of(entropy.nats_BL + nats_B[:, None], weights_BT)
    total = entropy.total + jnp.sum(nats_B[:, None] * weights_BT)
    return {
      "loss": dataclasses.replace(both, total=total),
      **_measured(entropy, weights_BT),
      "next_sentence_nats": Mean.of(nats_B, row_B),
      "next_sentence_accuracy": Mean.of(correct_B, row_B),
    }


def _masked(model: Any, x_BLD: Array, batch: dict[str, Any]) -> tuple[CrossEntropy, Array]:
  """The loss at the places, and their weights: place 0, the classification token's, is none."""
  states_BTE, bias_V = model.words(x_BLD, batch["places"])
  weights_BT = (batch["places"] > 0).astype(jnp.float32)
  entropy = cross_entropy(states_BTE, model.table(), batch["targets"], weights_BT, bias_V=bias_V)
  return entropy, weights_BT


def _measured(entropy: CrossEntropy, weights_BT: Array) -> Metrics:
  return {
    "nats": Mean.of(entropy.nats_BL, weights_BT),
    "accuracy": Mean.of(entropy.correct_BL, weights_BT),
  }
