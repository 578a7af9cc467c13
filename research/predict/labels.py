"""Labels of texts, from a classifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from research.data.clean import clean
from research.data.task_rows import Entry, Record
from research.errors import UserError
from research.predict.opened import Opened, rounded


class LabelsOf:
  """Says which label a text has, and how likely every one is."""

  columns = ("label", "probability")  # of a result as a row of a table

  def __init__(self, run: Opened):
    self._run, self._labels = run, run.labels()
    self.too_long = (
      f"have more than {run.dataset.length:,} tokens with their marks, and their ends were left out"
    )

  def inputs(self, path: str) -> Iterator[Entry]:
    """The records of a file."""
    return self._run.dataset.train.inputs(path)

  def one(self, texts: Sequence[str]) -> Record:
    """The record of a text, or of two, cleaned as those in files are."""
    wanted = 2 if getattr(self._run.dataset.train, "pair", None) else 1
    if len(texts) != wanted:
      raise UserError(f"the model reads {wanted} texts at once, and {len(texts)} are given.")
    cleaned = [clean(text) for text in texts]
    for text, given in zip(cleaned, texts):
      if not text.strip():
        raise UserError(f"the text {given!r} is empty; give one, in quotes.")
    return {"texts": cleaned}

  def __call__(self, records: Sequence[Record]) -> tuple[list[dict[str, Any]], int]:
    """{"label", "probability", "probabilities": {label: p}} for every record; how many were cut."""
    arrays, cut = self._run.dataset.encode(self._run.vocabulary, records)
    names = self._labels.names
    results = [
      {
        "label": names[int(row.argmax())],
        "probability": rounded(row.max()),
        "probabilities": dict(zip(names, map(rounded, row))),
      }
      for row in (found["probabilities"] for found in self._run.outputs(arrays))
    ]
    return results, cut
