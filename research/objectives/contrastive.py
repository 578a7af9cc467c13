"""Losses that tell what belongs together from all else in the batch, over all devices.

They compare examples with one another, so microbatches do not add up to a batch. An objective that
has `cut` takes care of it: training hands it the whole batch and says into how many pieces the
encoding and the scores, which are what needs the memory, are to be cut (`nn/pieces.py`,
`seen.py`).
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
from research.objectives import positives
from research.objectives.compared import EXCHANGES, compared
from research.objectives.seen import LOWEST, Seen, Side


@dataclasses.dataclass(frozen=True)
class InfoNCE:
  """Which caption is this image's, which image this caption's (CLIP, section 2.3 and figure 3).

  The model has `encode_image(image)`, `encode_text(caption, end)` and `scale()`. Where several
  captions are right, each should have the same share (UniCL, Yang et al., 2022, section 3.2).

  Attributes:
    alike: what else is right beside an image's own caption: "caption", those that say the same;
      "picture", those of the same picture. With nothing in it they count as wrong.
    exchange: whether captions are gathered on every device ("gather") or go around ("ring").
    pieces: that the batch is encoded and compared in.
  """

  alike: tuple[str, ...] = ()
  exchange: str = "gather"
  pieces: int = 1

  def __post_init__(self):
    check(self)

  def cut(self, pieces: int) -> InfoNCE:
    """The same loss in the memory of one of so many pieces."""
    return dataclasses.replace(self, pieces=pieces)

  def __call__(self, model: Any, batch: dict[str, Any]) -> Metrics:
    """Per pair (not padding):

    loss: mean of the nats of finding the caption and of finding the image.
    of_chance: the loss over that of chance, ln(B).
    image_to_text, text_to_image: whether it was found, against all others of the batch.
    scale: one over the temperature.
    """
    return self.judge(model, *sides(model, batch, self.alike, self.pieces))

  def judge(self, model: Any, images: Side, texts: Side) -> Metrics:
    """The same, of what was encoded."""
    seen = compared(
      _distributions, model.scale(), images, texts, pieces=self.pieces, exchange=self.exchange
    )
    weights_B = images.weights_B
    to_text_B, to_image_B = (x["log_sum"] - x["own"] / jnp.maximum(x["pairs"], 1) for x in seen)
    return {
      **_measured((to_text_B + to_image_B) / 2, jnp.log(_count(weights_B)), weights_B, seen),
      "scale": Mean.of(jnp.broadcast_to(model.scale(), weights_B.shape), weights_B),
    }


@dataclasses.dataclass(frozen=True)
class SigmoidLoss:
  """Every image with every caption of the batch: a pair or not (SigLIP, Zhai et al., 2023).

  The model has, beside what `InfoNCE` asks of it, `score_bias()`.

  Attributes: as of `InfoNCE`.
  """

  alike: tuple[str, ...] = ()
  exchange: str = "gather"
  pieces: int = 1

  def __post_init__(self):
    check(self)

  def cut(self, pieces: int) -> SigmoidLoss:
    """The same loss in the memory of one of so many pieces."""
    return dataclasses.replace(self, pieces=pieces)

  def __call__(self, model: Any, batch: dict[str, Any]) -> Metrics:
    """Per image (not padding):

    loss: nats of all its decisions together (the paper's algorithm 1 divides by B, not B²).
    of_chance: the loss over that of the best answer which is the same for all, one pair in B.
    image_to_text, text_to_image: as of `InfoNCE`.
    scale, bias: of the scores.
    """
    return self.judge(model, *sides(model, batch, self.alike, self.pieces))

  def judge(self, model: Any, images: Side, texts: Side) -> Metrics:
    """The same, of what was encoded."""
    numbers = (model.scale(), model.score_bias())
    seen = compared(_decisions, numbers, images, texts, pieces=self.pieces, exchange=self.exchange)
    weights_B = images.weights_B
    count = _count(weights_B)
    chance = jnp.log(count) - (count - 1) * jnp.log1p(-1 / count)
    return {
      **_measured(seen[0]["nats"], chance, weights_B, seen),
      "scale": Mean.of(jnp.broadcast_to(numbers[0], weights_B.shape), weights_B),
      "bias": Mean.of(jnp.broadcast_to(numbers[1], weights_B.shape), weights_B),
    }


def check(objective: InfoNCE | SigmoidLoss) -> None:
  """UserError for what the fields of a loss cannot be."""
  positives.check(objective.alike)
  if objective.exchange not in EXCHANGES:
    raise UserError(f"exchange={objective.exchange!r} is not one of {', '.join(EXCHANGES)}.")


def sides(
  model: Any, batch: dict[str, Any], alike: tuple[str, ...], pieces: int
) -> tuple[Side, Side]:
  """The pictures and the captions of a batch, encoded in so many pieces.

  Raises:
    UserError: the batch is a single pair.
  """
  weights_B = batch["weights"]
  if weights_B.shape[0] < 2:
    raise UserError(
      "a batch of one pair has nothing to compare it with; choose batch_size=2 or more."
    )
  marks_BAW = positives.marks(batch, alike)
  image_BE = in_pieces(model, "encode_image", pieces, batch["image"])
  text_BE = in_pieces(model, "encode_text", pieces, batch["caption"], batch["caption_end"])
  return Side(image_BE, weights_B, marks_BAW), Side(text_BE, weights_B, marks_BAW)


def _distributions(scale: Array, images: Side, texts: Side) -> tuple[Seen, Seen]:
  scores_BJ, there_BJ, pairs_BJ = _scores(images, texts)
  scores_BJ = jnp.where(there_BJ, scores_BJ * scale, LOWEST)

  def of(axis):
    return {
      "log_sum": jax.nn.logsumexp(scores_BJ, axis=axis),
      "own": jnp.sum(jnp.where(pairs_BJ, scores_BJ, 0.0), axis=axis),
      "pairs": jnp.sum(pairs_BJ, axis=axis, dtype=jnp.float32),
      **_highest(scores_BJ, there_BJ, pairs_BJ, axis),
    }

  return of(1), of(0)


def _decisions(numbers: tuple[Array, Array], images: Side, texts: Side) -> tuple[Seen, Seen]:
  scores_BJ, there_BJ, pairs_BJ = _scores(images, texts)
  scores_BJ = scores_BJ * numbers[0] + numbers[1]
  nats_BJ = -jax.nn.log_sigmoid(jnp.where(pairs_BJ, scores_BJ, -scores_BJ)) * there_BJ
  by_image = _highest(scores_BJ, there_BJ, pairs_BJ, 1)
  return {**by_image, "nats": jnp.sum(nats_BJ, axis=1)}, _highest(scores_BJ, there_BJ, pairs_BJ, 0)


def _scores(images: Side, texts: Side) -> tuple[Array, Array, Array]:
  """(B, J): cosines, where neither is padding, and which of these are pairs."""
  # Multiplied by up to 100, the rounding of a narrower product would be seen in the loss.
  highest = jax.lax.Precision.HIGHEST
  cosines_BJ = jnp.einsum("BE,JE->BJ", images.vectors_BE, texts.vectors_BE, precision=highest)
  there_BJ = (images.weights_B[:, None] > 0) & (texts.weights_B > 0)
  return cosines_BJ, there_BJ, there_BJ & positives.paired(images.marks_BAW, texts.marks_BAW)


def _highest(scores_BJ: Array, there_BJ: Array, pairs_BJ: Array, axis: int) -> Seen:
  """The scores of the best of what is right, and of what is not."""
  scores_BJ = jax.lax.stop_gradient(scores_BJ)
  return {
    "best": jnp.max(jnp.where(pairs_BJ, scores_BJ, LOWEST), axis=axis),
    "rival": jnp.max(jnp.where(there_BJ & ~pairs_BJ, scores_BJ, LOWEST), axis=axis),
  }


def _measured(loss_B: Array, chance: Array, weights_B: Array, seen: tuple[Seen, Seen]) -> Metrics:
  by_image, by_text = seen
  return {
    "loss": Mean.of(loss_B, weights_B),
    "of_chance": Mean.of(loss_B / chance, weights_B),
    "image_to_text": Mean.of(by_image["best"] > by_image["rival"], weights_B),
    "text_to_image": Mean.of(by_text["best"] > by_text["rival"], weights_B),
  }


def _count(weights_B: Array) -> Array:
  """How many pairs there are; of one alone, whose loss is zero, as if there were two."""
  return jnp.maximum(jnp.sum(weights_B), 2.0)
