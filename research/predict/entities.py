"""Entities in sentences, from a tagger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from research.data.tag_schemes import spelled
from research.data.tagged import WORDS, entities_of
from research.data.task_rows import Entry, Record
from research.errors import UserError
from research.predict.opened import Opened, rounded


class EntitiesOf:
  """Says which words are entities, and of which type."""

  columns = None  # of a result as a row of a table: it fits into none

  def __init__(self, run: Opened):
    self._run, self._labels = run, run.labels()
    self.too_long = f"have more than {run.dataset.length:,} tokens, and were read in pieces"

  def inputs(self, path: str) -> Iterator[Entry]:
    """The records of a file."""
    return self._run.dataset.train.inputs(path)

  def one(self, texts: Sequence[str]) -> Record:
    """The record of a text, cut into words."""
    words = [word for text in texts for word in WORDS.findall(text)]
    if not words:
      raise UserError("the text has no words; give some.")
    return {"words": words}

  def __call__(self, records: Sequence[Record]) -> tuple[list[dict[str, Any]], int]:
    """{"words", "tags", "entities": [{"type", "text", "begin", "end", "probability"}]} of each.

    And how many were read in pieces. The end is not included; tags are those of IOB2; the
    probability is the least of its words.
    """
    arrays = self._run.dataset.encode(self._run.vocabulary, records)
    found = self._run.outputs(arrays)
    tags = [np.zeros(len(record["words"]), int) for record in records]
    sure = [np.ones(len(record["words"])) for record in records]
    for row, number in enumerate(arrays["record"]):
      begins = np.flatnonzero(arrays["words"][row])
      words = arrays["words"][row][begins] - 1
      tags[number][words] = found[row]["tags"][begins]
      sure[number][words] = found[row]["probabilities"][begins]
    pieces = np.bincount(arrays["record"], minlength=len(records))
    results = [self._result(*of_record) for of_record in zip(records, tags, sure)]
    return results, int((pieces > 1).sum())

  def _result(self, record: Record, tags: np.ndarray, sure: np.ndarray) -> dict[str, Any]:
    words, entities = record["words"], entities_of(tags, self._labels)
    return {
      "words": words,
      "tags": spelled(entities, len(words)),
      "entities": [
        {
          "type": kind,
          "text": " ".join(words[begin:end]),
          "begin": begin,
          "end": end,
          "probability": rounded(sure[begin:end].min()),
        }
        for kind, begin, end in entities
      ],
    }
