"""Questions on texts as a dataset for readers: long texts in windows that overlap."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from research.data import offsets, task_rows
from research.data.pipeline import Batch
from research.data.splits import ByHash
from research.data.task_rows import Record, Records
from research.data.vocabulary import Tokenizer, Vocabulary
from research.errors import UserError

FORMAT = 2  # raise it whenever the files of the cache, or what is in them, change
KEYS = ("tokens", "segments", "first", "last")
MARKS = ("[CLS]", "[SEP]")


@dataclasses.dataclass(frozen=True)
class Questions:
  """Questions with their texts, each as [CLS] question [SEP] text [SEP]; a `Dataset`.

  A text that is longer than the row comes in windows of one row each (Devlin et al., 2018, the
  authors' run_squad.py). The answer of a window that does not hold it whole is none.

  Attributes:
    train: `SQuAD(path)`.
    tokenizer: learns from the train split where it learns.
    length: L, tokens of a row.
    stride: tokens from the beginning of one window to that of the next.
    question: tokens of a question, at most; it is cut behind them.
    heldout, test: files of their own; without `heldout` the split takes it from `train`.
    split: says which questions are held out.
    limit: training questions to keep, chosen by hash; None keeps all. The words of the tokenizer
      come from all of them.
    draw: which ones `limit` keeps; another number chooses others.
  """

  train: Records
  tokenizer: Tokenizer
  length: int
  stride: int = 128
  question: int = 64
  heldout: Records | None = None
  test: Records | None = None
  split: ByHash = ByHash(heldout=0.1)  # noqa: RUF009 (frozen)
  limit: int | None = None
  draw: int = 0

  def __post_init__(self):
    task_rows.check(self)
    if self.question < 1 or self.stride < 1:
      raise UserError(f"question={self.question} and stride={self.stride} must be at least 1")
    if self.length < self.question + 3 + min(self.stride, 8):
      raise UserError(
        f"length={self.length} has no room for a text beside {self.question} tokens of a question "
        "and three marks; choose more, or a smaller question"
      )

  def prepare(self) -> task_rows.PreparedRows:
    """Reads, splits and tokenizes, or opens what was prepared before from the same contents.

    Raises:
      UserError: a file cannot be read, or an answer does not lie in its text.
    """
    texts = lambda record: [record["question"], record["context"]]  # noqa: E731
    return task_rows.prepare("questions", FORMAT, self, texts, None, self._rows, KEYS)

  def source(self, split: str) -> task_rows.Rows:
    """The rows of "train", "heldout" or "test"."""
    return self.prepare().source(split)

  def example(self) -> Batch:
    """One row of zeros: the keys, shapes and dtypes of what `source` gives, and nothing opened."""
    row, one = np.zeros((1, self.length), np.int32), np.zeros(1, np.int32)
    return {"tokens": row, "segments": row, "first": one, "last": one}

  def encode(self, vocabulary: Vocabulary, records: Sequence[Record]) -> tuple[Batch, int]:
    """Rows of records, and how many questions were cut:

    tokens, segments: (N, L) 1 in the question, 2 in the text.
    begins, ends: (N, L) the characters of the text that a token covers; zero elsewhere.
    central: (N, L) 1 where a token has as much of the text around it as in any window.
    record: (N,) the record of a row, in its order.
    """
    start, between = task_rows.marks(vocabulary, MARKS)
    asked = vocabulary.encode_all([record["question"] for record in records])
    texts = offsets.located(vocabulary, [record["context"] for record in records])
    rows: dict[str, list] = {
      key: [] for key in ("tokens", "segments", "begins", "ends", "central", "record")
    }
    for number, (question, (tokens, places)) in enumerate(zip(asked, texts)):
      head = [start, *question[: self.question].tolist(), between]
      room = self.length - len(head) - 1
      spans = windows(len(tokens), room, self.stride)
      for span, central in zip(spans, _central(len(tokens), spans)):
        part, before = slice(*span), [0] * len(head)
        size = span[1] - span[0]
        rows["tokens"].append([*head, *tokens[part].tolist(), between])
        rows["segments"].append([1] * len(head) + [2] * (size + 1))
        rows["begins"].append([*before, *places[part, 0].tolist()])
        rows["ends"].append([*before, *places[part, 1].tolist()])
        rows["central"].append([*before, *central.tolist()])
        rows["record"].append(number)
    cut = sum(len(question) > self.question for question in asked)
    owners = np.array(rows.pop("record"), np.int32)
    arrays = {key: task_rows.padded(values, self.length) for key, values in rows.items()}
    return {**arrays, "record": owners}, cut

  def _rows(self, vocabulary: Vocabulary, labels: Any, records: Sequence[Record]):
    del labels
    arrays, cut = self.encode(vocabulary, records)
    places = np.zeros((2, len(arrays["record"])), np.int32)
    for row, number in enumerate(arrays["record"]):
      if answers := records[number]["answers"]:
        places[:, row] = place(arrays["begins"][row], arrays["ends"][row], *answers[0])
    notes = (
      [f"{cut:,} questions have more than {self.question} tokens: their ends go"] if cut else []
    )
    if more := len(arrays["record"]) - len(records):
      notes.append(f"texts that are longer than a row go on in {more:,} further windows")
    return {**arrays, "first": places[0], "last": places[1]}, "; ".join(notes)


def windows(tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
  """[begin, end) of every window of a text, the last one reaching its end."""
  found, begin = [], 0
  while begin + room < tokens:
    found.append((begin, begin + room))
    begin += min(stride, room)
  return [*found, (begin, tokens)]


def place(begins_L: np.ndarray, ends_L: np.ndarray, begin: int, end: int) -> tuple[int, int]:
  """The first and the last token of characters [begin, end); 0, 0 where they are not all there."""
  inside_L = (begins_L < end) & (ends_L > begin)
  if not inside_L.any() or begins_L[inside_L].min() > begin or ends_L[inside_L].max() < end:
    return 0, 0
  places = np.flatnonzero(inside_L)
  return int(places[0]), int(places[-1])


def _central(tokens: int, spans: Sequence[tuple[int, int]]) -> list[np.ndarray]:
  """For each window, which of its tokens have the most text on their poorer side there."""
  scores = np.full((len(spans), tokens), -1.0)
  for row, (begin, end) in zip(scores, spans):
    at = np.arange(begin, end)
    row[begin:end] = np.minimum(at - begin, end - 1 - at) + 0.01 * (end - begin)
  best = scores.argmax(axis=0) if tokens else np.zeros(0, int)
  return [best[begin:end] == i for i, (begin, end) in enumerate(spans)]
