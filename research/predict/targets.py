"""Translations and summaries of texts, from an encoder-decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from research import data
from research.data.clean import clean
from research.data.task_rows import Entry, Record
from research.errors import UserError
from research.generate import Beam, texts
from research.predict.opened import ROWS, Opened, rounded
from research.rouge import Summarized
from research.scores import Translated

SEARCH = Beam(4, length_penalty=0.6)  # where no evaluation of the run says how it writes


class TargetsOf:
  """Writes the target of a text, as the run's evaluation by BLEU or ROUGE writes it."""

  columns = ("text", "score")  # of a result as a row of a table

  def __init__(self, run: Opened):
    self._run, self._room = run, run.model.max_length - 1 - len(run.lead)
    dataset = run.dataset
    self._lines = isinstance(dataset, data.Translations)  # a source is one
    self._files = dataset.pairs if self._lines else dataset.train
    named = [item for item in run.evals.values() if isinstance(item, Translated | Summarized)]
    self._search = named[0].search if named else SEARCH
    self._tokens = named[0].tokens if named else run.model.max_length

  @property
  def too_long(self) -> str:
    """What is said of texts that are too long."""
    return f"have more than {self._room:,} tokens, and their ends were left out"

  def inputs(self, path: str) -> Iterator[Entry]:
    """The sources in a file."""
    return self._files.inputs(path)

  def one(self, given: Sequence[str]) -> Record:
    """The record of a text, cleaned as those in files are."""
    if len(given) != 1:
      raise UserError(f"{len(given)} texts are given; give one, in quotes.")
    text = clean(given[0]).strip()
    if not text:
      raise UserError(f"the text {given[0]!r} is empty; give one, in quotes.")
    return {"source": text.replace("\n", " ") if self._lines else text}

  def __call__(self, records: Sequence[Record]) -> tuple[list[dict[str, Any]], int]:
    """{"text", "score"} for every record, and how many were too long; see `Target.score`."""
    run = self._run
    written = texts.write(
      run.model,
      run.params,
      texts.Words(run.source_vocabulary, run.vocabulary),
      [record["source"] for record in records],
      tokens=self._tokens,
      begin=run.begin,
      lead=run.lead,
      search=self._search,
      rows=ROWS,
    )
    results = [{"text": item.text.strip(), "score": rounded(item.score)} for item in written]
    return results, sum(item.left_out > 0 for item in written)
