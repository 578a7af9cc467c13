"""Glyphs of some characters, to be told by: each character is a class, whatever its style."""

from __future__ import annotations

import dataclasses

import numpy as np

from research.data import pipeline
from research.data.glyphs import Drawn, Glyphs
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Characters:
  """The glyphs of some characters; a `Dataset` whose batches have a "label" beside.

  Attributes:
    glyphs: of which they are chosen, and by which they are drawn.
    characters: the classes, in the order of their numbers.
    draws: pictures of each glyph, in colours and places of their own: those of so many epochs.
  """

  glyphs: Glyphs
  characters: str
  draws: int = 1

  def __post_init__(self):
    if self.draws < 1:
      raise UserError(f"draws={self.draws} shows nothing; choose at least 1.")
    if len(set(self.characters)) < len(self.characters):
      raise UserError(f"characters={self.characters!r}: name each of them once.")

  def source(self, split: str) -> Chosen:
    """Those of a split of the glyphs.

    Raises:
      UserError: there are none.
    """
    return Chosen(self.glyphs.source(split), self)

  def example(self) -> pipeline.Batch:
    """One picture of zeros: the keys, shapes and dtypes of what `source` gives."""
    return {**self.glyphs.example(), "label": np.zeros(1, np.int32)}


class Chosen:
  """The chosen pictures of one split: each glyph once, then each of them again."""

  def __init__(self, source: Drawn, dataset: Characters):
    self._source, self._draws = source, dataset.draws
    number = {character: i for i, character in enumerate(dataset.characters)}
    described = source.attributes(np.arange(len(source)))
    labels = np.array([number.get(x.character, -1) for x in described], np.int32)
    self._places = np.flatnonzero(labels >= 0)
    self._labels = labels[self._places]
    if not len(self._places):
      raise UserError(
        f"the split {source.split!r} has no glyph of {dataset.characters[:20]!r}; choose others."
      )

  def __len__(self) -> int:
    return len(self._places) * self._draws

  def take(self, indices: np.ndarray, epoch: int) -> pipeline.Batch:
    """As of `Drawn.take`, with the class of each."""
    draws, chosen = np.divmod(indices, len(self._places))
    rows = [
      self._source.take(self._places[[i]], epoch * self._draws + int(draw))
      for i, draw in zip(chosen, draws)
    ]
    batch = {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
    return {**batch, "label": self._labels[chosen]}
