"""Losses that tell what belongs together from all else in the batch, over all devices.

They compare examples with one another, so microbatches do not add up to a batch. An objective that
has `cut` takes care of it: training hands it the whole batch and says into how many pieces the
encoding, which is what needs the memory, is to be cut (`nn/pieces.py`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from research.errors import UserError
from research.metrics import Mean, Metrics
from research.nn.pieces import in_pieces
from research.sharding import constrain, gather


@dataclasses.dataclass(frozen=True)
class InfoNCE:
  """Which caption is this image's, which image this caption's (CLIP, section 2.3 and figure 3).

  The model has `encode_image(image)`, `encode_text(caption, end)` and `scale()`.

  Attributes:
    pieces: that the batch is encoded in.
  """

  pieces: int = 1

  def cut(self, pieces: int) -> InfoNCE:
    """The same loss in the memory of one of so many pieces."""
    return dataclasses.replace(self, pieces=pieces)

  def __call__(self, model: Any, batch: dict[str, Any]) -> Metrics:
    """Per pair (not padding):

    loss: mean of the nats of finding the caption and of finding the image; ln(B) by chance.
    image_to_text, text_to_image: whether it was found, against all others of the batch.
    scale: one over the temperature.
    """
    weights_B = batch["weights"]
    scores_BJ = scores(model, batch, self.pieces) * model.scale()
    lowest = jnp.finfo(jnp.float32).min
    there_B = weights_B > 0
    scores_BJ = jnp.where(there_B[:, None] & there_B, scores_BJ, lowest)
    own_B = _own(scores_BJ, axis=1)
    to_text_B = jax.nn.logsumexp(scores_BJ, axis=1) - own_B
    to_image_B = jax.nn.logsumexp(scores_BJ, axis=0) - own_B
    return {
      "loss": Mean.of((to_text_B + to_image_B) / 2, weights_B),
      "image_to_text": Mean.of(_better(scores_BJ, axis=1) == 0, weights_B),
      "text_to_image": Mean.of(_better(scores_BJ, axis=0) == 0, weights_B),
      "scale": Mean.of(jnp.broadcast_to(model.scale(), weights_B.shape), weights_B),
    }


@dataclasses.dataclass(frozen=True)
class SigmoidLoss:
  """Every image with every caption of the batch: a pair or not (SigLIP, Zhai et al., 2023).

  The model has, beside what `InfoNCE` asks of it, `score_bias()`.

  Attributes:
    pieces: that the batch is encoded in.
  """

  pieces: int = 1

  def cut(self, pieces: int) -> SigmoidLoss:
    """The same loss in the memory of one of so many pieces."""
    return dataclasses.replace(self, pieces=pieces)

  def __call__(self, model: Any, batch: dict[str, Any]) -> Metrics:
    """Per image (not padding):

    loss: nats of all its decisions together (the paper's algorithm 1 divides by B, not B²).
    image_to_text, text_to_image: as of `InfoNCE`.
    scale, bias: of the scores.
    """
    weights_B = batch["weights"]
    scores_BJ = scores(model, batch, self.pieces) * model.scale() + model.score_bias()
    signs_BJ = jnp.where(_pairs(scores_BJ), 1.0, -1.0)
    nats_BJ = -jax.nn.log_sigmoid(signs_BJ * scores_BJ) * (weights_B > 0)
    compared_BJ = jnp.where(weights_B[:, None] * weights_B > 0, scores_BJ, -jnp.inf)
    return {
      "loss": Mean.of(jnp.sum(nats_BJ, axis=1), weights_B),
      "image_to_text": Mean.of(_better(compared_BJ, axis=1) == 0, weights_B),
      "text_to_image": Mean.of(_better(compared_BJ, axis=0) == 0, weights_B),
      "scale": Mean.of(jnp.broadcast_to(model.scale(), weights_B.shape), weights_B),
      "bias": Mean.of(jnp.broadcast_to(model.score_bias(), weights_B.shape), weights_B),
    }


@dataclasses.dataclass(frozen=True)
class Retrieval:
  """How often what belongs together is among the k nearest, both ways (recall at k).

  It is an evaluation and searches one batch: give its `Eval` a batch_size of at least the split's
  size, and pieces that divide it. What ties with the right one counts as nearer, so that a model
  whose vectors are all the same finds nothing.

  Attributes:
    nearest: the numbers k.
    pieces: that the batch is encoded in.
  """

  nearest: tuple[int, ...] = (1, 5, 10)
  pieces: int = 1

  def __post_init__(self):
    if not self.nearest or min(self.nearest) < 1:
      raise UserError(f"nearest={self.nearest} are numbers from 1 on, such as (1, 5, 10).")

  def cut(self, pieces: int) -> Retrieval:
    """The same search in the memory of one of so many pieces."""
    return dataclasses.replace(self, pieces=pieces)

  def __call__(self, model: Any, batch: dict[str, Any]) -> Metrics:
    """image_to_text_at_k and text_to_image_at_k, and how many pairs were searched."""
    weights_B = batch["weights"]
    scores_BJ = scores(model, batch, self.pieces)
    scores_BJ = jnp.where(weights_B[:, None] * weights_B > 0, scores_BJ, -jnp.inf)
    metrics = {}
    for direction, axis in (("image_to_text", 1), ("text_to_image", 0)):
      better_B = _better(scores_BJ, axis)
      for k in self.nearest:
        metrics[f"{direction}_at_{k}"] = Mean.of(better_B < k, weights_B)
    return {**metrics, "searched": Mean(jnp.sum(weights_B), jnp.ones(()))}


def scores(model: Any, batch: dict[str, Any], pieces: int) -> Array:
  """(B, J) float32: the cosine of every image of the global batch with every caption.

  Images stay on their devices, captions go to all of them. J is B again, over captions.
  """
  image_BE = in_pieces(model, "encode_image", pieces, batch["image"])
  text_JE = in_pieces(model, "encode_text", pieces, batch["caption"], batch["caption_end"])
  text_JE = gather(constrain(text_JE, "BE"), "BE", jnp.float32)
  # Multiplied by up to 100, the rounding of a narrower product would be seen in the loss.
  highest = jax.lax.Precision.HIGHEST
  scores_BJ = jnp.einsum("BE,JE->BJ", constrain(image_BE, "BE"), text_JE, precision=highest)
  return constrain(scores_BJ, "BJ")


def _better(scores_BJ: Array, axis: int) -> Array:
  """(B,) int32: how many others score at least as high as the right one."""
  own_B = jnp.expand_dims(_own(scores_BJ, axis), axis)
  return jnp.sum(scores_BJ >= own_B, axis=axis) - 1


def _own(scores_BJ: Array, axis: int) -> Array:
  """(B,): the score of each with its own, as a sum, which is split over devices like any other."""
  return jnp.sum(jnp.where(_pairs(scores_BJ), scores_BJ, 0.0), axis=axis)


def _pairs(scores_BJ: Array) -> Array:
  """Where an image meets its own caption."""
  B, J = scores_BJ.shape
  return jnp.arange(B)[:, None] == jnp.arange(J)
