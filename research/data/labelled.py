"""Texts, or pairs of them, with a label: from a table of one's own to rows for a classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from research.data import files, reading, tables, task_rows
from research.data.bad_records import check_share
from research.data.clean import clean
from research.data.labels import Labels
from research.data.pipeline import Batch, Source
from research.data.splits import TRAIN, ByHash
from research.data.task_rows import Entry, Record, Records
from research.data.vocabulary import Tokenizer, Vocabulary
from research.data.word_dropout import WordDropout
from research.errors import UserError

FORMAT = 2  # raise it whenever the files of the cache, or what is in them, change
KEYS = ("tokens", "segments", "label")
BERT_MARKS = ("[CLS]", "[SEP]", "[SEP]")
MASK = "[MASK]"


@dataclasses.dataclass(frozen=True)
class LabelledFile:
  """A table of labelled texts: .csv, .tsv or .jsonl, plain or .gz; a source of records.

  Attributes:
    path: of the file; "~" is the home folder.
    text, label: names of columns, or of the fields of .jsonl objects. A label is a word or a whole
      number.
    pair: the column of the second text, where there are two.
    skip: share of the rows that may be bad and are left out.
  """

  path: str
  text: str = "text"
  label: str = "label"
  pair: str | None = None
  skip: float = 0.0

  def __post_init__(self):
    check_share(self.skip)

  def fingerprint(self) -> str:
    """Of the contents and the columns."""
    names = (self.text, self.label, self.pair, self.skip)
    return f"labelled {names} {files.kind(self._path())} {task_rows.contents(self._path())}"

  def read(self) -> Iterator[Record]:
    """Records {"texts": [...], "label": ...}.

    Raises:
      UserError: names the file, the line, and the way out.
    """
    return task_rows.usable(self._entries(self.path, self.label), self.skip)

  def inputs(self, path: str) -> Iterator[Entry]:
    """Records {"texts": [...]} of another table, with the same columns but for the label."""
    return self._entries(path, None)

  def _entries(self, name: str, label: str | None) -> Iterator[Entry]:
    path = reading.expanded(name)
    ending = files.table_kind(path)
    columns = [column for column in (self.text, self.pair) if column is not None]
    needs = columns if label is None else [*columns, label]
    for row in tables.rows(path, ending, reading.text(path), needs):
      try:
        texts = [_text(row, column) for column in columns]
        record = {"texts": texts}
        if label is not None:
          record |= {"label": _label(row, label), "where": row.where}
      except UserError as error:
        yield Entry(row.where, {}, str(error))
      else:
        yield Entry(row.where, record)

  def _path(self):
    return reading.expanded(self.path)


@dataclasses.dataclass(frozen=True)
class Labelled:
  """Labelled texts, or pairs, each in a row: start, text, (between, text,) end; a `Dataset`.

  The labels are those of the training file; another file may have no others.

  Attributes:
    train: `LabelledFile(path)`.
    tokenizer: learns from the texts of the train split where it learns.
    length: L, tokens of a row; of longer texts the ends are cut, always of the longer one.
    labels: how many there are.
    heldout, test: files of their own; without `heldout` the split takes it from `train`.
    split: says which records are held out.
    limit: training records to keep, chosen by hash; None keeps all. The words of the tokenizer and
      the names of labels come from all of them.
    draw: which ones `limit` keeps; another number chooses others.
    marks: the tokens at the start, between two texts and at the end, by name; None is end-of-text.
      In BERT they are [CLS], [SEP], [SEP]; GPT-1 has learned ones of its own.
    word_dropout: share of the tokens of the train split that [MASK] hides, others in every epoch.
    seed: of word dropout.
  """

  train: Records
  tokenizer: Tokenizer
  length: int
  labels: int = 2
  heldout: Records | None = None
  test: Records | None = None
  split: ByHash = ByHash(heldout=0.1)  # noqa: RUF009 (frozen)
  limit: int | None = None
  draw: int = 0
  marks: tuple[str | None, str | None, str | None] = BERT_MARKS
  word_dropout: float = 0.0
  seed: int = 0

  def __post_init__(self):
    task_rows.check(self)
    if not 0.0 <= self.word_dropout < 1.0:
      raise UserError(f"word_dropout={self.word_dropout} is not a share: give 0 or more, below 1")

  def prepare(self) -> task_rows.PreparedRows:
    """Reads, splits and tokenizes, or opens what was prepared before from the same contents.

    Raises:
      UserError: a file cannot be read, or has labels that the training file has not.
    """
    return task_rows.prepare(
      *("labelled", FORMAT, self, lambda record: record["texts"], self._labels, self._rows, KEYS)
    )

  def source(self, split: str) -> Source:
    """The rows of "train", "heldout" or "test"."""
    prepared = self.prepare()
    rows = prepared.source(split)
    if split != TRAIN or not self.word_dropout:
      return rows
    mask, *marks = task_rows.marks(prepared.vocabulary, (MASK, *self.marks))
    return WordDropout(rows, self.word_dropout, mask=mask, marks=marks, seed=self.seed)

  def example(self) -> Batch:
    """One row of zeros: the keys, shapes and dtypes of what `source` gives, and nothing opened."""
    row = np.zeros((1, self.length), np.int32)
    return {"tokens": row, "segments": row, "label": np.zeros(1, np.int32)}

  def encode(self, vocabulary: Vocabulary, records: Sequence[Record]) -> tuple[Batch, int]:
    """The tokens and segments of records, and how many of them were cut."""
    start, between, end = task_rows.marks(vocabulary, self.marks)
    flat = iter(vocabulary.encode_all([text for record in records for text in record["texts"]]))
    tokens, segments, cut = [], [], 0
    for record in records:
      parts = [next(flat).tolist() for _ in record["texts"]]
      room = self.length - 1 - len(parts)
      kept = _shortened([len(part) for part in parts], room)
      cut += sum(kept) < sum(map(len, parts))
      row, owner = [start], [1]
      for number, (part, size) in enumerate(zip(parts, kept), 1):
        row += [*part[:size], between if number < len(parts) else end]
        owner += [number] * (size + 1)
      tokens.append(row)
      segments.append(owner)
    return {
      "tokens": task_rows.padded(tokens, self.length),
      "segments": task_rows.padded(segments, self.length),
    }, cut

  def _labels(self, records: Sequence[Record]) -> Labels:
    found = Labels.of(record["label"] for record in records)
    found.fit(self.labels, "labels")
    return found

  def _rows(self, vocabulary: Vocabulary, labels: Any, records: Sequence[Record]):
    arrays, cut = self.encode(vocabulary, records)
    numbers = [labels.number(record["label"], record.get("where", "a file")) for record in records]
    note = f"{cut:,} of {len(records):,} texts have more than {self.length} tokens: their ends go"
    return {**arrays, "label": np.array(numbers, np.int32)}, note if cut else ""


def _text(row: tables.Row, column: str) -> str:
  text = clean(tables.text_of(row, column))
  if not text.strip():
    raise UserError(f"{row.where}: {column!r} is empty; write a text, or remove the row")
  return text


def _label(row: tables.Row, column: str) -> str:
  value = row.cells.get(column)
  if isinstance(value, int):  # of .jsonl
    return str(value)
  label = clean(tables.text_of(row, column)).strip()
  if not label:
    raise UserError(f"{row.where}: the label is empty; write one, or remove the row")
  return label


def _shortened(sizes: Sequence[int], room: int) -> list[int]:
  """What is kept of one or two texts: tokens are taken away from the longer one."""
  if len(sizes) == 1 or sum(sizes) <= room:
    return [min(size, room) for size in sizes]
  first = min(sizes[0], max(room - sizes[1], -(-room // 2)))
  return [first, min(sizes[1], room - first)]
