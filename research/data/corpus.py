"""Documents on disk: cleaned, split and tokenized once, kept as arrays that are memory-mapped."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from research.data import cache, progress, tokenizers
from research.data.clean import Cleaning, clean_all
from research.data.splits import HELDOUT, SPLITS, TRAIN, ByHash
from research.data.vocabulary import Vocabulary
from research.errors import UserError, nearest

PART = 1 << 21  # characters tokenized at once

# (vocabulary, texts of a split, its name) -> arrays by name.
Tokenize = Callable[[Vocabulary, Sequence[str], str], dict[str, np.ndarray]]


class Documents(Protocol):
  """Where documents come from: a frozen value that opens nothing when constructed."""

  def fingerprint(self) -> str:
    """Changes whenever `read` would give other documents."""

  def read(self) -> Iterator[str]:
    """The documents, in an order that is always the same."""


def prepare(kind: str, version: int, corpus: Any, tokenize: Tokenize) -> Prepared:
  """Cleans, splits and tokenizes, or opens what was prepared before from the same contents.

  Args:
    kind: of the arrays, the name of a folder in the cache.
    version: of what `tokenize` makes.
    corpus: with the documents, tokenizer, split, limit and duplicates of `Text`.
    tokenize: makes the arrays.

  Raises:
    UserError: the documents cannot be read, or a split of them is empty.
  """
  name = cache.key(
    version,
    corpus.documents.fingerprint(),
    corpus.tokenizer.fingerprint(),
    repr(corpus.split),
    corpus.limit,
    corpus.duplicates,
  )
  return Prepared(cache.folder(kind, name, lambda folder: _write(folder, corpus, tokenize)))


class Prepared:
  """A corpus on disk; opening it reads nothing of the arrays.

  Attributes:
    vocabulary: the fitted tokenizer.
    cleaning: what cleaning kept and dropped, before the split.
    folder: where it lies; `folder`/vocabulary can be copied into a run.
  """

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    self._summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    self.cleaning = Cleaning(**self._summary["cleaning"])
    self.vocabulary: Vocabulary = tokenizers.load(folder / "vocabulary")

  def array(self, split: str, part: str) -> np.ndarray:
    """An array of a split by its name."""
    path = self.folder / f"{_known(split)}.{part}.npy"
    return np.load(path, mmap_mode="r", allow_pickle=False)

  def raw_bytes(self, split: str) -> int:
    """UTF-8 bytes of the split's clean documents."""
    return self._summary["splits"][_known(split)]["bytes"]


def parts(texts: Sequence[str], split: str) -> Iterator[list[str]]:
  """The texts in turn, as many at once as should be tokenized at once, with a line of progress."""
  with progress.line(f"tokenizing {split}") as show:
    yield from show(_parts(texts))


def check(corpus: Any) -> None:
  """Raises a UserError for a limit or a treatment of duplicates that cannot be."""
  if corpus.limit is not None and corpus.limit < 1:
    raise UserError(f"limit={corpus.limit} leaves no text; choose a number of bytes, or None")
  if corpus.duplicates not in ("dropped", "kept"):
    raise UserError(f"duplicates={corpus.duplicates!r} are neither 'dropped' nor 'kept'")


def _write(folder: pathlib.Path, corpus: Any, tokenize: Tokenize) -> None:
  with progress.line("reading and cleaning") as show:
    documents, digests, cleaning = clean_all(show(corpus.documents.read()), corpus.duplicates)
  if not documents:
    raise UserError(f"{corpus.documents} holds no text; check the files and the field")
  try:
    texts = divide(corpus, documents, digests)
  except UserError as error:
    if not isinstance(corpus.split, ByHash):
      raise
    tail = f"Tail(heldout={corpus.split.heldout})"
    raise UserError(f"{error}; or use {tail}, which cuts every document") from None
  with progress.line("fitting the tokenizer"):
    fitted = corpus.tokenizer.fit(texts[TRAIN])
  fitted.save(folder / "vocabulary")
  save(folder, cleaning, texts, lambda split: tokenize(fitted, texts[split], split))


def save(
  folder: pathlib.Path,
  cleaning: Cleaning,
  texts: Mapping[str, Sequence[str]],
  arrays: Callable[[str], dict[str, np.ndarray]],
) -> None:
  """Writes the arrays of every split, and the summary by which `Prepared` knows them."""
  summary = {"cleaning": dataclasses.asdict(cleaning), "splits": {}}
  for split in SPLITS:
    raw = sum(len(text.encode()) for text in texts[split])
    for part, array in arrays(split).items():
      np.save(folder / f"{split}.{part}.npy", array, allow_pickle=False)
    summary["splits"][split] = {"bytes": raw}
  (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _known(split: str) -> str:
  if split not in SPLITS:
    raise UserError(
      f"there is no split {split!r}; choose {TRAIN!r} or {HELDOUT!r}.{nearest(split, SPLITS)}"
    )
  return split


def divide(corpus: Any, documents: list[str], digests: list[bytes]) -> dict[str, list[str]]:
  """The texts of both splits, in the order of the documents, train within the limit."""
  numbers = corpus.split.divide(documents, digests)
  texts = {split: [] for split in SPLITS}
  for split in SPLITS:
    parts = {i: corpus.split.cut(documents[i])[split] for i in numbers[split]}
    if split == TRAIN and corpus.limit is not None:
      # The digest's second half: the first decided the split and is not evenly spread any more.
      order = sorted(numbers[split], key=lambda i: digests[i][8:])
      parts = _limited({i: parts[i] for i in order}, corpus.limit)
    texts[split] = [parts[i] for i in sorted(parts) if parts[i]]
    if not texts[split] and (split == TRAIN or corpus.split.heldout > 0):
      raise UserError(f"{corpus.split} leaves the {split} split empty; choose another fraction")
  return texts


def within(parts: Mapping[int, str], limit: int) -> dict[int, str]:
  """The first of the parts that have no more than so many bytes together, all of them whole."""
  taken: dict[int, str] = {}
  for i, part in parts.items():
    limit -= len(part.encode())
    if limit < 0:
      break
    taken[i] = part
  return taken


def _limited(parts: Mapping[int, str], limit: int) -> dict[int, str]:
  if taken := within(parts, limit):
    return taken
  # The last character may be cut in the middle, and then goes.
  return {i: part.encode()[:limit].decode("utf-8", "ignore") for i, part in [*parts.items()][:1]}


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
  part: list[str] = []
  size = 0
  for text in texts:
    part.append(text)
    size += len(text)
    if size >= PART:
      yield part
      part, size = [], 0
  if part:
    yield part
