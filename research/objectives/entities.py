"""The loss of a tag for every word, and the F1 of the entities that the tags spell.

Tags are numbers: 0 is outside, 2t - 1 begins an entity of type t = 1, 2, ..., and 2t goes on with
it. This is the scheme IOB2; data in another one is converted when it is read.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from research.metrics import Mean, Metrics
from research.objectives.classification import nats


@dataclasses.dataclass(frozen=True)
class Tags:
  """Say the tag of every word at its first token (Devlin et al., 2018, section 5.3).

  The model gives logits (B, L, C).
  """

  def __call__(self, model: Any, batch: dict[str, Any]) -> Metrics:
    """Measures:

    loss: nats, -log p of a word's tag.
    accuracy: whether it was the likeliest.
    precision, recall, f1: of entities: one is found where type, first and last word are right, as
      conlleval and seqeval count (Tjong Kim Sang and De Meulder, 2003).
    """
    logits_BLC, first_BL = model(batch["tokens"], batch["segments"]), batch["words"] > 0
    weights_BL = first_BL.astype(jnp.float32)
    said_BL = jnp.argmax(logits_BLC, axis=-1)
    nats_BL = nats(logits_BLC, batch["tags"])
    correct, given, said = entity_counts(batch["tags"], said_BL, first_BL)
    return {
      "loss": Mean.of(nats_BL, weights_BL),
      "accuracy": Mean.of(said_BL == batch["tags"], weights_BL),
      "precision": Mean(correct, said),
      "recall": Mean(correct, given),
      "f1": Mean(2 * correct, given + said),
    }

  def predict(self, model: Any, batch: dict[str, Any]) -> dict[str, Array]:
    """tags: (B, L), and their probabilities, (B, L)."""
    logits_BLC = model(batch["tokens"], batch["segments"])
    return {
      "tags": jnp.argmax(logits_BLC, axis=-1),
      "probabilities": jnp.max(jax.nn.softmax(logits_BLC), axis=-1),
    }


def entity_counts(given_BL: Array, said_BL: Array, first_BL: Array) -> tuple[Array, Array, Array]:
  """How many entities were found, are given, and were said; float32.

  Args:
    given_BL, said_BL: tags; only those at first tokens count.
    first_BL: bool, where a word begins.
  """
  given, said = (_entities(tags_BL, first_BL) for tags_BL in (given_BL, said_BL))
  # The same entity begins and ends with the same words, and is of the same type.
  same_BL = given[0] & said[0] & (given[1] == said[1]) & (given[2] == said[2])
  return tuple(jnp.sum(x_BL).astype(jnp.float32) for x_BL in (same_BL, given[0], said[0]))


def _entities(tags_BL: Array, first_BL: Array) -> tuple[Array, Array, Array]:
  """Where an entity begins, of which type it is there, and the place where what is next begins."""
  B, L = tags_BL.shape
  places_L = jnp.arange(L)
  # A token belongs to the word that began last; before the first word there is none.
  owner_BL = jax.lax.cummax(jnp.where(first_BL, places_L, 0), axis=1)
  none_BL = jnp.cumsum(first_BL, axis=1) == 0
  tag_BL = jnp.where(none_BL, 0, jnp.take_along_axis(tags_BL, owner_BL, axis=1))
  type_BL = (tag_BL + 1) // 2
  before_BL = jnp.concatenate([jnp.zeros((B, 1), type_BL.dtype), type_BL[:, :-1]], axis=1)
  # "Goes on" after another type, or after nothing, begins as well: conlleval's rule.
  begins_BL = first_BL & (type_BL > 0) & ((tag_BL % 2 == 1) | (type_BL != before_BL))
  edge_BL = begins_BL | (first_BL & (type_BL == 0))
  after_BL = jnp.concatenate([jnp.where(edge_BL, places_L, L)[:, 1:], jnp.full((B, 1), L)], axis=1)
  return begins_BL, type_BL, jax.lax.cummin(after_BL, axis=1, reverse=True)
