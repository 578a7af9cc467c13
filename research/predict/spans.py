"""Answers to questions on texts, from a reader."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from research import answers
from research.data.task_rows import Entry, Record
from research.errors import UserError
from research.predict.opened import ROWS, Opened, rounded


class AnswersTo:
  """Finds the answer to a question in a text."""

  columns = None  # of a result as a row of a table: it fits into none

  def __init__(self, run: Opened):
    self._run = run
    self.too_long = (
      f"ask more than {run.dataset.question:,} tokens, and the ends of the questions were left out"
    )
    named = [item for item in run.evals.values() if isinstance(item, answers.Answered)]
    self._threshold = named[0].threshold if named else 0.0

  def inputs(self, path: str) -> Iterator[Entry]:
    """The records of a file."""
    return self._run.dataset.train.inputs(path)

  def one(self, texts: Sequence[str]) -> Record:
    """The record of a question and a text."""
    if len(texts) != 2 or not all(text.strip() for text in texts):
      raise UserError(
        f"{len(texts)} texts are given; give a question and a text that answers it, in quotes."
      )
    return {"id": "1", "question": texts[0], "context": texts[1]}

  def __call__(self, records: Sequence[Record]) -> tuple[list[dict[str, Any]], int]:
    """{"id", "answer", "begin", "end", "score", "no_answer_score"} for every record.

    And how many questions were cut; texts of any length are read, in windows.
    Scores are log probabilities. The answer is null where none is likelier than the best span by
    more than the threshold of the run's `Answered`; begin and end are the best span's all the same.
    """
    run = self._run
    arrays, cut = run.dataset.encode(run.vocabulary, records)
    found = answers.answers(run.objective, run.model, run.params, arrays, len(records), ROWS)
    results = [
      {
        "id": record["id"],
        "answer": record["context"][answer.begin : answer.end].strip()
        if self._threshold is None or answer.doubt <= self._threshold
        else None,
        "begin": answer.begin,
        "end": answer.end,
        "score": rounded(answer.score) if math.isfinite(answer.score) else None,
        "no_answer_score": rounded(answer.null),
      }
      for record, answer in zip(records, found)
    ]
    return results, cut
