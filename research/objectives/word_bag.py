"""Which words a picture is described by, in no order: prediction, where CLIP compares."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from research.metrics import Mean, Metrics


@dataclasses.dataclass(frozen=True)
class WordBag:
  """Say which words a caption is made of (Joulin et al., 2016, section 3.2: one softmax over all).

  The model has `predict_words(image)`, logits (B, V). A caption's words are its tokens before
  end-of-text, as often as they stand in it.
  """

  def __call__(self, model: Any, batch: dict[str, Any]) -> Metrics:
    """Per pair (not padding):

    loss: mean nats of the words of its caption.
    of_chance: the loss over that of chance, ln(V).
    """
    logits_BV, weights_B = model.predict_words(batch["image"]), batch["weights"]
    nats_BL = -jnp.take_along_axis(jax.nn.log_softmax(logits_BV), batch["caption"], axis=1)
    loss_B = _mean(nats_BL, batch["caption_end"])
    return {
      "loss": Mean.of(loss_B, weights_B),
      "of_chance": Mean.of(loss_B / jnp.log(logits_BV.shape[1]), weights_B),
    }


def _mean(nats_BL: Array, end_B: Array) -> Array:
  """Over the places before the end."""
  there_BL = jnp.arange(nats_BL.shape[1]) < end_B[:, None]
  return jnp.sum(nats_BL * there_BL, axis=1) / jnp.maximum(end_B, 1)
