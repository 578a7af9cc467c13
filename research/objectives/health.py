"""How two towers do, beside their loss: whether they see their input, and what hinders them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import Array

from research.metrics import Mean, Metrics
from research.objectives.contrastive import InfoNCE, SigmoidLoss, sides
from research.objectives.positives import fingerprint
from research.objectives.seen import Side

BOUND = 1e-3  # of the largest scale; nearer to it counts as at it


@dataclasses.dataclass(frozen=True)
class PairHealth:
  """A loss with what explains it; `research.diagnosis` puts it into words. It is an evaluation.

  Attributes:
    objective: of the run.
  """

  objective: InfoNCE | SigmoidLoss

  def cut(self, pieces: int) -> PairHealth:
    """The same in the memory of one of so many pieces."""
    return dataclasses.replace(self, objective=self.objective.cut(pieces))

  def __call__(self, model: Any, batch: dict[str, Any]) -> Metrics:
    """Beside what the objective measures, per batch:

    shuffled_loss: the loss where every picture has the caption of the next.
    image_likeness, text_likeness: the mean cosine of two pictures, and of two captions.
    repeated_captions: the share that is said of another picture of the batch too, and counts as
      wrong for it; where the objective knows that they are alike, it is not measured.
    at_bound: whether the scale is at the largest that the model allows, if it has one.
    """
    objective = self.objective
    images, texts = sides(model, batch, objective.alike, objective.pieces)
    weights_B = images.weights_B
    count = jnp.sum(weights_B)
    measured = objective.judge(model, images, texts)
    shuffled = objective.judge(
      model, images, texts._replace(vectors_BE=texts.vectors_BE[_next(weights_B)])
    )
    told = {
      "image_likeness": _likeness(images),
      "text_likeness": _likeness(texts),
    }
    if "caption" not in objective.alike:
      told["repeated_captions"] = _repeated(batch["caption"], weights_B) / jnp.maximum(count, 1)
    if getattr(model, "largest_scale", None) is not None:
      told["at_bound"] = model.scale() >= model.largest_scale * (1 - BOUND)
    one_a_batch = {name: Mean(value * count, count) for name, value in told.items()}
    return {**measured, "shuffled_loss": shuffled["loss"], **one_a_batch}


def _next(weights_B: Array) -> Array:
  """The row after each, padding left out: the first after the last; padding is its own."""
  there_B = weights_B > 0
  order_B = jnp.argsort(~there_B)  # stable
  after_B = jnp.cumsum(there_B) % jnp.maximum(jnp.sum(there_B), 1)
  return jnp.where(there_B, order_B[after_B], jnp.arange(len(weights_B)))


def _likeness(side: Side) -> Array:
  """The mean cosine of two different ones."""
  count = jnp.sum(side.weights_B)
  total_E = jnp.sum(side.vectors_BE * side.weights_B[:, None], axis=0)
  return (jnp.sum(total_E**2) - count) / jnp.maximum(count * (count - 1), 1)


def _repeated(caption_BL: Array, weights_B: Array) -> Array:
  """How many captions stand in the batch more than once."""
  words_BW = fingerprint(caption_BL)
  same_BJ = (words_BW[:, None] == words_BW).all(-1) & (weights_B > 0)
  return jnp.sum((jnp.sum(same_BJ, axis=1) > 1) * weights_B)
