"""Classes told by nothing but their names (Radford et al., 2021, section 3.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError
from research.matching import encoded, ranks
from research.matching.retrieval import check_nearest
from research.metrics import Mean, Metrics, Sample

PLACE = "{}"  # of a name in a template


@dataclasses.dataclass(frozen=True)
class ZeroShot:
  """How often a picture is nearest to the name of its class, put into words.

  A class is the mean of the vectors of its name in each template (section 3.1.4), made length 1.
  For ties see `ranks`. Intervals draw pictures again: those of one number, where they have one.

  Attributes:
    names: of the classes, in the order of their numbers.
    templates: texts with a place for the name, such as "a photo of a {}.".
    nearest: the numbers k of classes among which the right one may be.
    pictures: a dataset of pictures with classes, in the key "label" of its batches; None for the
      experiment's own, if it has them.
    examples: of the split, from the first on; None for all.
    every: steps between evaluations; None for a tenth of the run. The end is always evaluated.
    split: of the dataset.
    rows: that are encoded at a time.
  """

  names: tuple[str, ...]
  templates: tuple[str, ...] = ("a photo of a {}.",)
  nearest: tuple[int, ...] = (1, 5)
  pictures: Any = None
  examples: int | None = None
  every: int | None = None
  split: str = "heldout"
  rows: int = encoded.ROWS

  def __post_init__(self):
    check_nearest(self.nearest)
    check_names(self.names)
    check_templates(self.templates)

  def total(
    self, model: Any, params: Any, dataset: Any, stopping: Callable[[], bool] = lambda: False
  ) -> Metrics | None:
    """top_k as samples over the pictures, and class_mean, the mean of the classes' own accuracies.

    Args: as of `Retrieval.total`.
    """
    encoder = encoded.Encoder(model, params, self.rows)
    words = encoded.Words.of(dataset, dataset.prepare().vocabulary)
    classes_CE = class_vectors(encoder, words, self.names, self.templates)
    source = (self.pictures or dataset).source(self.split)
    found = labelled(encoder, source, self.examples, stopping)
    if found is None:
      return None
    label_B = found.label_B
    check_labels(label_B, len(self.names))
    pairs = np.stack([np.arange(len(label_B)), label_B], axis=1)
    hits, chance = ranks.found(found.vectors_BE, classes_CE, pairs, self.nearest)
    top = {
      f"top_{k}": Sample(hits[:, i], float(chance[:, i].mean()), found.picture_B)
      for i, k in enumerate(self.nearest)
    }
    right, there = np.bincount(label_B, hits[:, 0]), np.bincount(label_B)
    each = right[there > 0] / there[there > 0]
    return {**top, "class_mean": Mean(each.sum(), len(each), (each**2).sum())}


def class_vectors(
  encoder: encoded.Encoder, words: encoded.Words, names: Sequence[str], templates: Sequence[str]
) -> np.ndarray:
  """(C, E) unit vectors of classes by their names."""
  texts = [template.replace(PLACE, name) for name in names for template in templates]
  each = encoder.texts(*words.rows(texts)).reshape(len(names), len(templates), -1)
  mean = each.mean(axis=1)
  return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)


class Labelled(NamedTuple):
  """Pictures with classes.

  Attributes:
    vectors_BE: of the pictures.
    label_B: the numbers of their classes.
    picture_B: numbers from 0, the same of the same picture; None where the batches have none.
  """

  vectors_BE: np.ndarray
  label_B: np.ndarray
  picture_B: np.ndarray | None


def labelled(
  encoder: encoded.Encoder, source: Any, limit: int | None, stopping: Callable[[], bool]
) -> Labelled | None:
  """The first pictures, encoded; None where stopped.

  Raises:
    UserError: there are no pictures, or they have no classes.
  """
  images, labels, pictures = [], [], []
  for _, batch in encoded.batches(source, encoder.rows, limit):
    if "label" not in batch:
      raise UserError(
        "the pictures have no 'label', the number of their class; give pictures= a dataset whose "
        "batches have one."
      )
    images.append(encoder.images(batch["image"]))
    labels.append(batch["label"])
    pictures.append(batch.get("picture"))
    if stopping():
      return None
  encoded.check_any(images)
  numbered = pictures[0] is not None
  picture_B = np.unique(np.concatenate(pictures), return_inverse=True)[1] if numbered else None
  return Labelled(np.concatenate(images), np.concatenate(labels).astype(np.int64), picture_B)


def check_names(names: Sequence[str], where: str = "names") -> None:
  """UserError where they cannot be told apart."""
  if len(names) < 2 or len(set(names)) < len(names) or not all(name.strip() for name in names):
    raise UserError(
      f"{where} {', '.join(names[:5])}: give two classes or more, each with a name of its own."
    )


def check_templates(templates: Sequence[str]) -> None:
  """UserError where a name has no place in one of them."""
  for template in templates:
    if PLACE not in template:
      raise UserError(
        f"template {template[:80]!r} has no place for a name; write {PLACE} there, as in "
        "'a photo of a {}.'."
      )
  if not templates:
    raise UserError("there are no templates; give one, such as 'a photo of a {}.'.")


def check_labels(label_B: np.ndarray, classes: int) -> None:
  """UserError where there are more classes than names."""
  if len(label_B) and not 0 <= label_B.min() <= label_B.max() < classes:
    raise UserError(
      f"labels go from {label_B.min()} to {label_B.max()}, and there are {classes} names; give "
      "one for each class, in the order of their numbers."
    )
