"""Whether a picture finds its captions among all of a split, and a caption its pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from research.errors import UserError
from research.matching import encoded, ranks
from research.metrics import Metrics, Sample


@dataclasses.dataclass(frozen=True)
class Retrieval:
  """Recall at k, both ways: how often one that belongs to it is among the k nearest.

  A picture may have several captions, any of which counts, and a caption several pictures; each is
  searched for, and searched, once. For ties see `ranks`. Intervals draw pictures again, with their
  captions.

  Attributes:
    nearest: the numbers k.
    pairs: of the split, from the first on; None for all.
    captions: of each picture, from the first on; None for all.
    every: steps between evaluations; None for a tenth of the run. The end is always evaluated.
    split: of the dataset.
    rows: that are encoded at a time.
  """

  nearest: tuple[int, ...] = (1, 5, 10)
  pairs: int | None = None
  captions: int | None = None
  every: int | None = None
  split: str = "heldout"
  rows: int = encoded.ROWS

  def __post_init__(self):
    check_nearest(self.nearest)
    for field in ("pairs", "captions", "rows"):
      if (value := getattr(self, field)) is not None and value < 1:
        raise UserError(f"{field}={value} finds nothing; choose at least 1.")

  def total(
    self, model: Any, params: Any, dataset: Any, stopping: Callable[[], bool] = lambda: False
  ) -> Metrics | None:
    """image_to_text_at_k and text_to_image_at_k, as samples over the queries.

    Args:
      model: has `encode_image(image)` and `encode_text(caption, end)`.
      params: its parameters.
      dataset: of pictures with captions.
      stopping: asked after every few rows; where it says yes, the result is None.
    """
    encoder = encoded.Encoder(model, params, self.rows)
    source = dataset.source(self.split)
    pairs = encoded.pairs_of(encoder, source, self.pairs, stopping, self.captions)
    return None if pairs is None else measured(pairs, self.nearest)


def measured(found: encoded.Pairs, nearest: tuple[int, ...]) -> Metrics:
  """The recalls of what was encoded."""
  picture_of_text = np.zeros(len(found.texts_TE), np.int64)
  picture_of_text[found.pairs[::-1, 1]] = found.pairs[::-1, 0]  # the first, where it has several
  metrics: Metrics = {}
  for direction, queries, others, pairs, groups in (
    ("image_to_text", found.images_PE, found.texts_TE, found.pairs, None),
    ("text_to_image", found.texts_TE, found.images_PE, found.pairs[:, ::-1], picture_of_text),
  ):
    hits, chance = ranks.found(queries, others, pairs, nearest)
    for i, k in enumerate(nearest):
      metrics[f"{direction}_at_{k}"] = Sample(hits[:, i], float(chance[:, i].mean()), groups)
  return metrics


def check_nearest(nearest: tuple[int, ...]) -> None:
  """UserError where they are no numbers of neighbours."""
  if not nearest or min(nearest) < 1:
    raise UserError(f"nearest={nearest} are numbers from 1 on, such as (1, 5, 10).")
