"""Losses of labels: of whole rows, and of the words in them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from research.metrics import CalibrationError, MacroF1, Mean, Metrics
from research.nn.cross_entropy import cross_entropy


@dataclasses.dataclass(frozen=True)
class Label:
  """Say which label a text has (Devlin et al., 2018, section 4.1); the model gives logits (B, C).

  Attributes:
    label_smoothing: the share of the label's probability that is spread over all.
  """

  label_smoothing: float = 0.0

  def __call__(self, model: Any, batch: dict[str, Any]) -> Metrics:
    """Per text:

    loss: -log p of the label, in nats, with label smoothing.
    accuracy: whether it was the likeliest.
    """
    return _labelled(self, model(batch["tokens"], batch["segments"]), batch)

  def predict(self, model: Any, batch: dict[str, Any]) -> dict[str, Array]:
    """probabilities: (B, C)."""
    return {"probabilities": jax.nn.softmax(model(batch["tokens"], batch["segments"]))}


@dataclasses.dataclass(frozen=True)
class LabelScores:
  """What a classifier is judged by; the model gives logits (B, C)."""

  def __call__(self, model: Any, batch: dict[str, Any]) -> Metrics:
    """Over all texts:

    loss, accuracy: as of `Label`, without smoothing.
    macro_f1: the mean F1 of the labels.
    calibration_error: of the probability of the likeliest label, in 15 bins.
    """
    logits_BC, weights_B = model(batch["tokens"], batch["segments"]), there(batch)
    predicted_B = jnp.argmax(logits_BC, axis=-1)
    confidence_B = jnp.max(jax.nn.softmax(logits_BC), axis=-1)
    correct_B = predicted_B == batch["label"]
    return {
      **_labelled(Label(), logits_BC, batch),
      "macro_f1": MacroF1.of(batch["label"], predicted_B, weights_B, logits_BC.shape[-1]),
      "calibration_error": CalibrationError.of(confidence_B, correct_B, weights_B),
    }


@dataclasses.dataclass(frozen=True)
class LabelAndNextToken:
  """Say which label a text has, and predict its words beside (Radford et al., 2018, equation 5).

  The model has `encode(tokens, segments)`, `classify(x, segments)` and `table()`.

  Attributes:
    auxiliary: weight of the words' loss, 0.5 in the paper (section 4.1).
  """

  auxiliary: float = 0.5

  def __call__(self, model: Any, batch: dict[str, Any]) -> Metrics:
    """Per text:

    loss: nats of its label, and `auxiliary` times the mean nats of its words.
    accuracy: of the label.
    word_nats: per word.
    """
    tokens_BL, segments_BL = batch["tokens"], batch["segments"]
    x_BLD = model.encode(tokens_BL, segments_BL)
    measured = _labelled(Label(), model.classify(x_BLD, segments_BL), batch)
    weights_BL = (segments_BL[:, 1:] > 0).astype(jnp.float32)
    # A text counts once, however long it is: so a batch in pieces has the loss of the whole.
    shares_BL = weights_BL / jnp.maximum(weights_BL.sum(axis=1, keepdims=True), 1)
    words = cross_entropy(x_BLD[:, :-1], model.table(), tokens_BL[:, 1:], shares_BL)
    loss = measured["loss"]
    total = loss.total + self.auxiliary * words.total
    return {
      **measured,
      "loss": Mean(total, loss.weight),
      "word_nats": Mean.of(words.nats_BL, weights_BL),
    }

  def predict(self, model: Any, batch: dict[str, Any]) -> dict[str, Array]:
    """probabilities: (B, C)."""
    return Label().predict(model, batch)


def there(batch: dict[str, Any]) -> Array:
  """(B,) 1 for a text, 0 for a row of padding."""
  return (batch["segments"][:, 0] > 0).astype(jnp.float32)


def nats(logits: Array, targets: Array) -> Array:
  """-log p of the targets, of the shape of `targets`; logits have one axis more."""
  log_p = jax.nn.log_softmax(logits)
  return -jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]


def _labelled(objective: Label, logits_BC: Array, batch: dict[str, Any]) -> Metrics:
  weights_B, label_B, share = there(batch), batch["label"], objective.label_smoothing
  nats_B = nats(logits_BC, label_B)
  spread_B = -jnp.mean(jax.nn.log_softmax(logits_BC), axis=-1)
  return {
    "loss": Mean.of((1 - share) * nats_B + share * spread_B, weights_B),
    "accuracy": Mean.of(jnp.argmax(logits_BC, axis=-1) == label_B, weights_B),
  }
