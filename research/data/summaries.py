"""Texts with their summaries: from a table of one's own to rows for an encoder-decoder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from research.data import files, reading, tables, task_rows
from research.data.bad_records import check_share
from research.data.clean import clean
from research.data.pair_rows import KEYS, OF_SOURCE
from research.data.pipeline import Batch
from research.data.sentences import sentences
from research.data.splits import ByHash
from research.data.task_rows import Entry, Record, Records
from research.data.vocabulary import Tokenizer, Vocabulary
from research.errors import UserError

FORMAT = 1  # raise it whenever the files of the cache, or what is in them, change


@dataclasses.dataclass(frozen=True)
class SummaryFile:
  """A table of texts with summaries: .jsonl, .csv or .tsv, plain or .gz; a source of records.

  Attributes:
    path: of the file; "~" is the home folder.
    source: the column or field of the text; in .jsonl it may be a list of its sentences.
    target: that of the summary; in .jsonl it may be a list of several, each of them a right one.
    skip: share of the rows that may be bad and are left out.
  """

  path: str
  source: str = "source"
  target: str = "target"
  skip: float = 0.0

  def __post_init__(self):
    check_share(self.skip)

  def fingerprint(self) -> str:
    """Of the contents and the columns."""
    path = reading.expanded(self.path)
    names = (self.source, self.target, self.skip)
    return f"summaries {names} {files.kind(path)} {task_rows.contents(path)}"

  def read(self) -> Iterator[Record]:
    """Records {"source", "lead", "targets": [...]}; the lead is the first sentence of the source.

    Raises:
      UserError: names the file, the line, and the way out.
    """
    return task_rows.usable(self._entries(self.path, (self.source, self.target)), self.skip)

  def inputs(self, path: str) -> Iterator[Entry]:
    """Records {"source", "lead"} of another table; summaries are not asked for."""
    return self._entries(path, (self.source,))

  def _entries(self, name: str, needs: Sequence[str]) -> Iterator[Entry]:
    path = reading.expanded(name)
    ending = files.table_kind(path)
    for row in tables.rows(path, ending, reading.text(path), needs):
      try:
        parts = _texts(row, self.source)
        # A single text is cut where its first sentence seems to end.
        lead = parts[0] if len(parts) > 1 else sentences(parts[0])[0].strip()
        record = {"source": " ".join(parts), "lead": lead}
        if len(needs) > 1:
          record["targets"] = _texts(row, self.target)
      except UserError as error:
        yield Entry(row.where, {}, str(error))
      else:
        yield Entry(row.where, record)


@dataclasses.dataclass(frozen=True)
class Sources:
  """The texts without their summaries, as documents to pre-train on.

  Attributes:
    records: `SummaryFile(path)`.
  """

  records: Records

  def fingerprint(self) -> str:
    """That of the records."""
    return f"sources {self.records.fingerprint()}"

  def read(self) -> Iterator[str]:
    """The texts, in the order of the records."""
    return (record["source"] for record in self.records.read())


@dataclasses.dataclass(frozen=True)
class Summaries:
  """Texts with their summaries, a pair to a row; a `Dataset`.

  The keys are those of `Translations`. Of several summaries each makes a row.

  Attributes:
    train: `SummaryFile(path)`.
    tokenizer: of both sides; learns from the texts and summaries of the train split if it learns.
    length: L, tokens of a summary; of longer ones the ends are cut.
    source_length: M, tokens of a text with its end-of-text; of longer ones the ends are cut.
    heldout, test: files of their own; without `heldout` the split takes it from `train`.
    split: says which records are held out.
    limit, draw: training records to keep, and which, as of `Labelled`.
  """

  train: Records
  tokenizer: Tokenizer
  length: int
  source_length: int
  heldout: Records | None = None
  test: Records | None = None
  split: ByHash = ByHash(heldout=0.1)  # noqa: RUF009 (frozen)
  limit: int | None = None
  draw: int = 0

  def __post_init__(self):
    task_rows.check(self)
    if self.source_length < 8:
      raise UserError(
        f"source_length={self.source_length} has no room for a text; choose 8 or more"
      )

  def prepare(self) -> task_rows.PreparedRows:
    """Reads, splits and tokenizes, or opens what was prepared before from the same contents.

    Raises:
      UserError: a file cannot be read.
    """
    texts = lambda record: [record["source"], *record["targets"]]  # noqa: E731
    return task_rows.prepare("summaries", FORMAT, self, texts, None, self._rows, KEYS)

  def source(self, split: str) -> task_rows.Rows:
    """The rows of "train", "heldout" or "test"."""
    return self.prepare().source(split)

  def example(self) -> Batch:
    """One row of zeros: the keys, shapes and dtypes of what `source` gives, and nothing opened."""
    sizes = {key: self.source_length if key in OF_SOURCE else self.length for key in KEYS}
    return {key: np.zeros((1, size), np.int32) for key, size in sizes.items()}

  def _rows(self, vocabulary: Vocabulary, labels: Any, records: Sequence[Record]):
    del labels
    counts = [len(record["targets"]) for record in records]
    sources = vocabulary.encode_all([record["source"] for record in records])
    targets = vocabulary.encode_all([target for record in records for target in record["targets"]])
    sources = [source for source, count in zip(sources, counts) for _ in range(count)]
    end, cut = vocabulary.end, [0, 0]
    rows: dict[str, list] = {"source": [], "tokens": [], "targets": []}
    for source, target in zip(sources, targets):
      cut[0] += len(source) >= self.source_length
      cut[1] += len(target) >= self.length
      # A source is whole, or seems so. A summary that was cut has no end that could be learned.
      rows["source"].append([*source[: self.source_length - 1].tolist(), end])
      whole = [end, *target.tolist(), end]
      rows["tokens"].append(whole[:-1][: self.length])
      rows["targets"].append(whole[1:][: self.length])
    there = {"source_": rows["source"], "": rows["tokens"]}
    for prefix, lists in there.items():
      rows[f"{prefix}segments"] = [[1] * len(row) for row in lists]
      rows[f"{prefix}positions"] = [range(len(row)) for row in lists]
    rows["bytes"] = [vocabulary.bytes_of[row].tolist() for row in rows["targets"]]
    sizes = {key: self.source_length if key in OF_SOURCE else self.length for key in KEYS}
    arrays = {key: task_rows.padded(rows[key], sizes[key]) for key in KEYS}
    return arrays, _note(cut, (self.source_length - 1, self.length - 1), len(sources))


def _note(cut: Sequence[int], room: tuple[int, int], count: int) -> str:
  sides = zip(("texts", "summaries"), cut, room)
  said = [f"{n:,} of {count:,} {side} have more than {most} tokens" for side, n, most in sides if n]
  return " and ".join(said) + (": their ends go" if said else "")


def _texts(row: tables.Row, column: str) -> list[str]:
  """One text or several, none of them empty."""
  given = row.cells.get(column)
  given = given if isinstance(given, list) else [tables.text_of(row, column)]
  if not all(isinstance(text, str) for text in given):
    raise UserError(
      f"{row.where}: {column}={json.dumps(given)[:80]} is no list of texts; write a text, or a list"
    )
  found = [text for text in (clean(text).strip() for text in given) if text]
  if not found:
    raise UserError(f"{row.where}: {column!r} is empty; write a text, or remove the row")
  return found
