"""Sentences with a tag for every word, from a CoNLL file of one's own, as a dataset for taggers."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from research.data import reading, tables, tag_schemes, task_rows
from research.data.bad_records import check_share
from research.data.labels import Labels
from research.data.pipeline import Batch
from research.data.splits import ByHash
from research.data.tag_schemes import Entity
from research.data.task_rows import Entry, Record, Records
from research.data.vocabulary import Tokenizer, Vocabulary
from research.errors import UserError

FORMAT = 1  # raise it whenever the files of the cache, or what is in them, change
KEYS = ("tokens", "segments", "words", "tags")
MARKS = ("[CLS]", "[SEP]")
WORDS = re.compile(r"\w+|[^\w\s]")  # of a text that nobody has cut into words


@dataclasses.dataclass(frozen=True)
class CoNLL:
  """A word a line, its tag in the last column, an empty line behind each sentence.

  Columns stand apart by tabs, or by spaces. Lines that begin with -DOCSTART- are left out.

  Attributes:
    path: of the file, plain or .gz; "~" is the home folder.
    scheme: of the tags: "IOB1", "IOB2" or "BIOES".
    skip: share of the sentences that may be bad and are left out.
  """

  path: str
  scheme: str = "IOB2"
  skip: float = 0.0

  def __post_init__(self):
    check_share(self.skip)
    tag_schemes.check(self.scheme)

  def fingerprint(self) -> str:
    """Of the contents and the scheme."""
    return f"conll {self.scheme} {self.skip} {task_rows.contents(reading.expanded(self.path))}"

  def read(self) -> Iterator[Record]:
    """Records {"words": [...], "entities": [[type, begin, end], ...]}.

    Raises:
      UserError: names the file, the line, and the way out.
    """
    return task_rows.usable(self._entries(), self.skip)

  def inputs(self, path: str) -> Iterator[Entry]:
    """Records {"words": [...]}: of .jsonl objects with "words" or a "text", or of such columns."""
    if path.lower().endswith((".jsonl", ".jsonl.gz")):
      text = reading.text(reading.expanded(path))
      for row in tables.rows(reading.expanded(path), ".jsonl", text, ()):
        try:
          yield Entry(row.where, {"words": _words(row)})
        except UserError as error:
          yield Entry(row.where, {}, str(error))
      return
    for number, rows in _sentences(path):
      yield Entry(f"{path}, line {number}", {"words": [cells[0] for cells in rows]})

  def _entries(self) -> Iterator[Entry]:
    for number, rows in _sentences(self.path):
      where = f"{self.path}, line {number}"
      short = [i for i, cells in enumerate(rows) if len(cells) < 2]
      if short:
        at = f"{self.path}, line {number + short[0]}"
        yield Entry(at, {}, f"{at}: a word without a tag; write both, or remove the sentence")
        continue
      try:
        found = tag_schemes.entities([cells[-1] for cells in rows], self.scheme)
      except UserError as error:
        yield Entry(where, {}, f"{where}, {error}")
        continue
      record = {"words": [cells[0] for cells in rows], "entities": found, "where": where}
      yield Entry(where, record)


@dataclasses.dataclass(frozen=True)
class Tagged:
  """Sentences with entities, each in a row: [CLS] words [SEP]; a `Dataset`.

  Longer sentences go on in further rows, cut between words, and where it can be between entities.
  Inside, tags are those of IOB2, numbered: 0 is outside, 2t - 1 begins type t = 1, 2, ..., and 2t
  goes on with it.

  Attributes:
    train: `CoNLL(path)`.
    tokenizer: learns from the sentences of the train split where it learns.
    length: L, tokens of a row.
    types: how many types of entities there are.
    heldout, test: files of their own; without `heldout` the split takes it from `train`.
    split: says which sentences are held out.
    limit: training sentences to keep, chosen by hash; None keeps all. The words of the tokenizer
      and the names of labels come from all of them.
    draw: which ones `limit` keeps; another number chooses others.
  """

  train: Records
  tokenizer: Tokenizer
  length: int
  types: int
  heldout: Records | None = None
  test: Records | None = None
  split: ByHash = ByHash(heldout=0.1)  # noqa: RUF009 (frozen)
  limit: int | None = None
  draw: int = 0

  def __post_init__(self):
    task_rows.check(self)

  def prepare(self) -> task_rows.PreparedRows:
    """Reads, splits and tokenizes, or opens what was prepared before from the same contents.

    Raises:
      UserError: a file cannot be read, or has types that the training file has not.
    """
    return task_rows.prepare(
      *("tagged", FORMAT, self, lambda record: [" ".join(record["words"])]),
      *(self._labels, self._rows, KEYS),
    )

  def source(self, split: str) -> task_rows.Rows:
    """The rows of "train", "heldout" or "test"."""
    return self.prepare().source(split)

  def example(self) -> Batch:
    """One row of zeros: the keys, shapes and dtypes of what `source` gives, and nothing opened."""
    return {key: np.zeros((1, self.length), np.int32) for key in KEYS}

  def encode(self, vocabulary: Vocabulary, records: Sequence[Record]) -> Batch:
    """Rows of the words of records: tokens, segments, and "words".

    words: (N, L) 1 + the number of the word in its sentence where it begins, else 0.
    record: (N,) the record of a row. A record has one row or more, in its order.
    """
    start, end = task_rows.marks(vocabulary, MARKS)
    unknown = vocabulary.special.get("[UNK]", end)  # for a word of which nothing is left
    flat = iter(vocabulary.encode_all([f" {word}" for r in records for word in r["words"]]))
    rows: dict[str, list] = {"tokens": [], "segments": [], "words": [], "record": []}
    for number, record in enumerate(records):
      # A word that alone is longer than a row loses its end.
      pieces = [next(flat).tolist()[: self.length - 2] or [unknown] for _ in record["words"]]
      inside = {i for _, begin, end in record.get("entities", ()) for i in range(begin + 1, end)}
      for begin, stop in _cuts([len(piece) for piece in pieces], self.length - 2, inside):
        tokens, words = [start], [0]
        for i in range(begin, stop):
          tokens += pieces[i]
          words += [i + 1] + [0] * (len(pieces[i]) - 1)
        rows["tokens"].append([*tokens, end])
        rows["segments"].append([1] * (len(tokens) + 1))
        rows["words"].append(words)
        rows["record"].append(number)
    arrays = {key: task_rows.padded(rows[key], self.length) for key in KEYS if key in rows}
    return {**arrays, "record": np.array(rows["record"], np.int32)}

  def _labels(self, records: Sequence[Record]) -> Labels:
    found = Labels.of(kind for record in records for kind, _, _ in record["entities"])
    found.fit(self.types, "types")
    return found

  def _rows(self, vocabulary: Vocabulary, labels: Any, records: Sequence[Record]):
    arrays = self.encode(vocabulary, records)
    numbered = [_numbered(record, labels) for record in records]
    tags = np.zeros_like(arrays["words"])
    for row, words, record in zip(tags, arrays["words"], arrays["record"]):
      row[words > 0] = numbered[record][words[words > 0] - 1]
    more = len(tags) - len(records)
    note = f"sentences of more than {self.length} tokens go on in {more:,} further rows"
    return {**arrays, "tags": tags}, note if more else ""


def _numbered(record: Record, labels: Labels) -> np.ndarray:
  tags = np.zeros(len(record["words"]), np.int32)
  for kind, begin, end in record["entities"]:
    number = labels.number(kind, record.get("where", "a sentence"))
    tags[begin:end] = 2 * number + 2
    tags[begin] = 2 * number + 1
  return tags


def entities_of(tags: Sequence[int], labels: Labels) -> list[Entity]:
  """The entities of one sentence from the numbers of its tags, as conlleval reads them."""
  found: list[Entity] = []
  before = 0
  for i, tag in enumerate(map(int, tags)):
    kind = (tag + 1) // 2
    if kind and kind == before and tag % 2 == 0:
      found[-1] = found[-1]._replace(end=i + 1)
    elif kind:
      found.append(Entity(labels.names[kind - 1], i, i + 1))
    before = kind
  return found


def _cuts(sizes: Sequence[int], room: int, inside: set[int]) -> Iterator[tuple[int, int]]:
  """Words [begin, stop) of each row; `inside` are those before which an entity would be cut."""
  begin = total = 0
  for i, size in enumerate(sizes):
    total += size
    while total > room:
      stop = next((j for j in range(i, begin, -1) if j not in inside), i)
      yield begin, stop
      begin, total = stop, sum(sizes[stop : i + 1])
  yield begin, len(sizes)


def _sentences(name: str) -> Iterator[tuple[int, list[list[str]]]]:
  """The columns of each sentence's words, with the number of its first line."""
  rows: list[list[str]] = []
  first = 1
  lines = reading.text(reading.expanded(name)).replace("\r\n", "\n").split("\n")
  for number, line in enumerate([*lines, ""], 1):
    if not line.strip() or line.startswith("-DOCSTART-"):
      if rows:
        yield first, rows
      rows = []
      continue
    if not rows:
      first = number
    rows.append(line.split("\t") if "\t" in line else line.split())


def _words(row: tables.Row) -> list[str]:
  if row.problem or "words" not in row.cells:
    words = WORDS.findall(tables.text_of(row, "text"))
  else:
    words = row.cells["words"]
    if not isinstance(words, list) or not all(isinstance(w, str) and w.strip() for w in words):
      given = json.dumps(words)[:80]
      raise UserError(f"{row.where}: words={given} is no list of words; write one, or a text")
  if not words:
    raise UserError(f"{row.where}: there are no words; write some, or remove the line")
  return words
