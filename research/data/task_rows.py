"""What tasks on labelled records share: splits, rows of a fixed length, and arrays on disk.

A task is a frozen dataset with the fields `train`, `heldout`, `test`, `split`, `tokenizer`,
`length` and `limit`. The first three are sources of records: dicts that JSON can hold.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from research.data import cache, progress, reading, tokenizers
from research.data.bad_records import BadRecords
from research.data.clean import digest
from research.data.labels import FILE, Labels
from research.data.pipeline import Batch
from research.data.splits import HELDOUT, TRAIN, ByHash, check_whole
from research.data.vocabulary import Vocabulary
from research.errors import UserError, nearest

TEST = "test"
RECORDS = "records.jsonl"

Record = dict[str, Any]


class Entry(NamedTuple):
  """A record of a file.

  Attributes:
    where: it stands: file and line.
    record: it, or nothing where it cannot be read.
    problem: why it cannot be, or nothing.
  """

  where: str
  record: Record
  problem: str = ""


class Records(Protocol):
  """Where records come from: a frozen value that opens nothing when constructed."""

  def fingerprint(self) -> str:
    """Changes whenever `read` would give other records."""

  def read(self) -> Iterator[Record]:
    """The records, in an order that is always the same."""

  def inputs(self, path: str) -> Iterator[Entry]:
    """What a file of the same kind holds to predict on: labels are not asked for."""


class Rows:
  """Rows of one split, each of a fixed length; a `Source`."""

  def __init__(self, arrays: Mapping[str, np.ndarray]):
    self._arrays = {name: np.asarray(x) for name, x in arrays.items()}

  def __len__(self) -> int:
    return len(next(iter(self._arrays.values())))

  def take(self, indices: np.ndarray, epoch: int) -> Batch:
    """The rows `indices`, the same in every epoch."""
    del epoch
    return {name: x[np.asarray(indices, np.int64)] for name, x in self._arrays.items()}


class PreparedRows:
  """A task on disk, memory-mapped.

  Attributes:
    vocabulary: of the texts.
    labels: of the training file; only where the task has any.
    folder: where it lies.
  """

  def __init__(self, folder: pathlib.Path, keys: Sequence[str]):
    """Args:
    folder: what `prepare` has written.
    keys: of a batch.
    """
    self.folder, self._keys = folder, keys
    self.vocabulary: Vocabulary = tokenizers.load(folder / "vocabulary")
    if (folder / FILE).is_file():
      self.labels = Labels.load(folder / FILE)

  def source(self, split: str) -> Rows:
    """The rows of "train", "heldout" or "test"."""
    return Rows({key: self.array(split, key) for key in self._keys})

  def array(self, split: str, name: str) -> np.ndarray:
    """An array of a split by its name."""
    return np.load(self._folder(split) / f"{name}.npy", mmap_mode="r", allow_pickle=False)

  def records(self, split: str) -> list[Record]:
    """The records of a split as they were read, in the order of their rows."""
    text = (self._folder(split) / RECORDS).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]

  def _folder(self, split: str) -> pathlib.Path:
    if not (folder := self.folder / split).is_dir():
      splits = sorted(path.parent.name for path in self.folder.glob(f"*/{RECORDS}"))
      raise UserError(
        f"there is no split {split!r}; there are {', '.join(splits)}.{nearest(split, splits)} "
        f"Give a file for it: {split}=PATH"
      )
    return folder


def prepare(
  kind: str,
  version: int,
  task: Any,
  texts: Callable[[Record], Sequence[str]],
  labels: Callable[[Sequence[Record]], Labels] | None,
  rows: Callable[[Vocabulary, Labels | None, Sequence[Record]], tuple[Batch, str]],
  keys: Sequence[str],
) -> PreparedRows:
  """Reads, splits and encodes a task, or opens what was prepared before from the same contents.

  Args:
    kind: a folder of the cache.
    version: of what `rows` makes.
    task: see above.
    texts: of a record; the tokenizer learns from those of the train split.
    labels: of the records of the training file, or None.
    rows: (vocabulary, labels, records) -> arrays, and one line on what did not fit, or "".
    keys: the arrays that are in a batch.

  Raises:
    UserError: a file cannot be read, or a split is empty.
  """
  parts = {name: getattr(task, name) for name in (TRAIN, HELDOUT, TEST)}
  said = [None if part is None else part.fingerprint() for part in parts.values()]
  fields = {name: x for name, x in vars(task).items() if name not in (*parts, "tokenizer")}
  name = cache.key(version, *said, task.tokenizer.fingerprint(), sorted(map(repr, fields.items())))

  def write(folder: pathlib.Path) -> None:
    records = _divided(task, parts, texts)
    with progress.line("fitting the tokenizer"):
      vocabulary = task.tokenizer.fit([text for r in records[TRAIN] for text in texts(r)])
    vocabulary.save(folder / "vocabulary")
    # What the split holds out is of the training file, too.
    split_off = records.get(HELDOUT, []) if parts[HELDOUT] is None else []
    known = None if labels is None else labels([*records[TRAIN], *split_off])
    if known is not None:
      known.save(folder / FILE)
    if task.limit is not None:
      records[TRAIN] = _few(records[TRAIN], texts, task)
    for split, some in records.items():
      with progress.line(f"tokenizing {split}"):
        arrays, note = rows(vocabulary, known, some)
      (folder / split).mkdir()
      for key, x in arrays.items():
        np.save(folder / split / f"{key}.npy", x, allow_pickle=False)
      lines = "".join(json.dumps(record) + "\n" for record in some)
      (folder / split / RECORDS).write_text(lines, encoding="utf-8")
      if note:
        print(f"{split}: {note}", file=sys.stderr)

  return PreparedRows(cache.folder(kind, name, write), keys)


def check(task: Any) -> None:
  """Raises a UserError for a length, a limit or a split that cannot be."""
  check_whole(task.split)
  if task.length < 8:
    raise UserError(f"length={task.length} has no room for a text and its marks; choose 8 or more")
  if task.limit is not None and task.limit < 1:
    raise UserError(f"limit={task.limit} leaves no record; choose a number of records, or None")


def usable(entries: Iterable[Entry], skip: float) -> Iterator[Record]:
  """The records of the entries that can be read; the others are left out, counted and named."""
  count, bad = 0, BadRecords(skip)
  for entry in entries:
    count += 1
    if entry.problem:
      bad.leave_out(entry.problem)
    else:
      yield entry.record
  bad.check(count)
  bad.tell(count)


def contents(path: pathlib.Path) -> str:
  """A fingerprint of a file."""
  with reading.opened(path) as file:
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def padded(rows: Sequence[Sequence[int]], length: int) -> np.ndarray:
  """(N, L) int32, zeros behind each row."""
  out = np.zeros((len(rows), length), np.int32)
  for row, values in zip(out, rows):
    row[: len(values)] = values
  return out


def marks(vocabulary: Vocabulary, names: Sequence[str | None]) -> list[int]:
  """The tokens by their names; None is end-of-text."""
  if missing := [name for name in names if name is not None and name not in vocabulary.special]:
    raise UserError(
      f"the vocabulary has no {' or '.join(missing)}; use that of a BERT, or learn one with "
      f"SentencePiece(vocab_size, special={tuple(missing)})"
    )
  return [vocabulary.end if name is None else vocabulary.special[name] for name in names]


def _few(records: list[Record], texts: Callable[[Record], Sequence[str]], task: Any):
  """`task.limit` records, chosen by their texts: fewer of a draw are a part of more of it."""
  if task.limit > len(records):
    raise UserError(
      f"limit={task.limit:,} is more than the {len(records):,} training records; leave it out"
    )

  def place(i: int) -> bytes:
    told = "\n".join([*texts(records[i]), *([str(task.draw)] if task.draw else [])])
    return digest(told)[8:]

  order = sorted(range(len(records)), key=place)
  return [records[i] for i in sorted(order[: task.limit])]


def _divided(
  task: Any, parts: Mapping[str, Records | None], texts: Callable[[Record], Sequence[str]]
) -> dict[str, list[Record]]:
  found = {}
  for split, part in parts.items():
    if part is not None:
      with progress.line(f"reading {split}") as show:
        found[split] = list(show(part.read()))
      if not found[split]:
        raise UserError(f"{part} holds no example; check the file")
  rule: ByHash = task.split
  if HELDOUT not in found and rule.heldout:
    records = found[TRAIN]
    documents = ["\n".join(texts(record)) for record in records]
    numbers = rule.divide(documents, [digest(document) for document in documents])
    found |= {split: [records[i] for i in numbers[split]] for split in (TRAIN, HELDOUT)}
  return found
