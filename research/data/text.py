"""Text as a dataset for language models: cleaned, split, tokenized once, packed into rows."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import numpy as np

from research.data import cache, packing, pipeline, progress, tokenizers
from research.data.clean import Cleaning, clean_all
from research.data.splits import HELDOUT, SPLITS, TRAIN, ByHash, Tail
from research.data.vocabulary import Tokenizer, Vocabulary
from research.errors import UserError, nearest

FORMAT = 2  # raise it whenever the files of the cache, or what is in them, change
PART = 1 << 21  # characters tokenized at once


class Documents(Protocol):
  """Where documents come from: a frozen value that opens nothing when constructed."""

  def fingerprint(self) -> str:
    """Changes whenever `read` would give other documents."""

  def read(self) -> Iterator[str]:
    """The documents, in an order that is always the same."""


@dataclasses.dataclass(frozen=True)
class Text:
  """Documents as rows of `length` predictions; a `Dataset`.

  Attributes:
    documents: `TFDS(name)` or `Files(pattern)`.
    tokenizer: `Bytes()`, `SentencePiece(vocab_size)` or `HuggingFace(path)`.
    length: L, predictions in a row.
    split: `ByHash(heldout=...)` or `Tail(heldout=...)`.
    limit: bytes of the train split to use, at most; None uses all. Whole documents are taken in
      the order of their hashes, which is a fair draw; where the first alone is larger, its
      beginning is. The held-out split is never limited.
    duplicates: documents that equal one before are "dropped"; or "kept", where how often
      something is said matters. Equal documents are in one split either way.
  """

  documents: Documents
  tokenizer: Tokenizer
  length: int
  split: ByHash | Tail = ByHash(heldout=0.05)  # noqa: RUF009 (frozen)
  limit: int | None = None
  duplicates: Literal["dropped", "kept"] = "dropped"

  def __post_init__(self):
    if self.length < 1:
      raise UserError(f"length={self.length} is no number of predictions; choose 1 or more")
    if self.limit is not None and self.limit < 1:
      raise UserError(f"limit={self.limit} leaves no text; choose a number of bytes, or None")
    if self.duplicates not in ("dropped", "kept"):
      raise UserError(f"duplicates={self.duplicates!r} are neither 'dropped' nor 'kept'")

  def prepare(self) -> PreparedText:
    """Cleans, splits and tokenizes, or opens what was prepared before from the same contents.

    Raises:
      UserError: the documents cannot be read, or a split of them is empty.
    """
    name = cache.key(
      FORMAT,
      self.documents.fingerprint(),
      self.tokenizer.fingerprint(),
      repr(self.split),
      self.limit,
      self.duplicates,
    )
    return PreparedText(cache.folder("text", name, self._write, _whole), self.length)

  def source(self, split: str) -> packing.Rows:
    """The rows of "train" or "heldout"."""
    return self.prepare().source(split)

  def example(self) -> pipeline.Batch:
    """One row of zeros: the keys, shapes and dtypes of what `source` gives, and nothing opened."""
    return packing.blank(self.length)

  def _write(self, folder: pathlib.Path) -> None:
    with progress.line("reading and cleaning") as show:
      documents, digests, cleaning = clean_all(show(self.documents.read()), self.duplicates)
    if not documents:
      raise UserError(f"{self.documents} holds no text; check the files and the field")
    texts = _divide(self, documents, digests)
    with progress.line("fitting the tokenizer"):
      fitted = self.tokenizer.fit(texts[TRAIN])
    fitted.save(folder / "vocabulary")
    summary = {"cleaning": dataclasses.asdict(cleaning), "splits": {}}
    for split in SPLITS:
      raw = sum(len(text.encode()) for text in texts[split])
      tokens, starts = _tokenize(fitted, texts[split], split)
      np.save(folder / f"{split}.tokens.npy", tokens, allow_pickle=False)
      np.save(folder / f"{split}.documents.npy", starts, allow_pickle=False)
      sizes = {
        f"{split}.{part}.npy": (folder / f"{split}.{part}.npy").stat().st_size
        for part in ("tokens", "documents")
      }
      summary["splits"][split] = {"bytes": raw, "files": sizes}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


class PreparedText:
  """A text dataset on disk, memory-mapped; opening it reads nothing of the tokens.

  Attributes:
    vocabulary: the fitted tokenizer.
    cleaning: what cleaning kept and dropped, before the split.
    folder: where it lies; `folder`/vocabulary can be copied into a run.
  """

  def __init__(self, folder: pathlib.Path, length: int):
    self.folder, self.length = folder, length
    self._summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    self.cleaning = Cleaning(**self._summary["cleaning"])
    self.vocabulary: Vocabulary = tokenizers.load(folder / "vocabulary")

  def tokens(self, split: str) -> np.ndarray:
    """(N,) uint16 or uint32: every document led by end-of-text, [E t1..tn E t1..tm ...].

    Place p is the input of prediction p; its target is at p + 1, and E after the last.
    """
    return self._array(split, "tokens")

  def documents(self, split: str) -> np.ndarray:
    """(documents + 1,) int64 boundaries in `tokens`: document i is tokens[b[i] : b[i + 1]].

    The first token of each is end-of-text; without it, b[i] + 1.
    """
    return self._array(split, "documents")

  def raw_bytes(self, split: str) -> int:
    """UTF-8 bytes of the split's clean documents."""
    return self._summary["splits"][_known(split)]["bytes"]

  def source(self, split: str) -> packing.Rows:
    """The rows of the split; those of "train" are cut elsewhere in every epoch.

    Raises:
      UserError: the split is shorter than one row.
    """
    tokens = self.tokens(split)
    if len(tokens) < self.length:
      raise UserError(
        f"the {split} split has {len(tokens):,} tokens, less than one row of length={self.length}; "
        f"choose length={len(tokens)} or less, or more text"
      )
    return packing.Rows(
      tokens,
      self.documents(split),
      self.vocabulary.bytes_of,
      self.length,
      moving=split == TRAIN,
    )

  def _array(self, split: str, part: str) -> np.ndarray:
    path = self.folder / f"{_known(split)}.{part}.npy"
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _known(split: str) -> str:
  if split not in SPLITS:
    raise UserError(
      f"there is no split {split!r}; choose {TRAIN!r} or {HELDOUT!r}.{nearest(split, SPLITS)}"
    )
  return split


def _whole(folder: pathlib.Path) -> bool:
  """Whether a prepared folder is complete: a disk that filled up or lost power may cut files."""
  try:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    sizes = [item for split in SPLITS for item in summary["splits"][split]["files"].items()]
    return all((folder / name).stat().st_size == size for name, size in sizes)
  except (OSError, ValueError, KeyError, TypeError):
    return False


def _divide(text: Text, documents: list[str], digests: list[bytes]) -> dict[str, list[str]]:
  """The texts of both splits, in the order of the documents, train within the limit."""
  numbers = text.split.divide(documents, digests)
  texts = {split: [] for split in SPLITS}
  for split in SPLITS:
    parts = {i: text.split.cut(documents[i])[split] for i in numbers[split]}
    if split == TRAIN and text.limit is not None:
      # The digest's second half: the first decided the split and is not evenly spread any more.
      order = sorted(numbers[split], key=lambda i: digests[i][8:])
      parts = _limited({i: parts[i] for i in order}, text.limit)
    texts[split] = [parts[i] for i in sorted(parts) if parts[i]]
    if not texts[split] and (split == TRAIN or text.split.heldout > 0):
      raise UserError(f"{text.split} leaves the {split} split empty; choose another fraction")
  return texts


def _limited(parts: dict[int, str], limit: int) -> dict[int, str]:
  taken: dict[int, str] = {}
  left = limit
  for i, part in parts.items():
    size = len(part.encode())
    if size > left:
      if not taken:  # the last character may be cut in the middle, and then goes
        taken[i] = part.encode()[:left].decode("utf-8", "ignore")
      break
    taken[i] = part
    left -= size
  return taken


def _tokenize(
  fitted: Vocabulary, texts: Sequence[str], split: str
) -> tuple[np.ndarray, np.ndarray]:
  dtype = np.uint16 if fitted.vocab_size <= 2**16 else np.uint32
  end = np.array([fitted.end], dtype)
  pieces: list[np.ndarray] = [np.zeros(0, dtype)]
  lengths: list[int] = []
  with progress.line(f"tokenizing {split}") as show:
    for part in show(_parts(texts)):
      for ids in fitted.encode_all(part):
        pieces += [end, ids.astype(dtype)]
        lengths.append(1 + len(ids))
  starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
  return np.concatenate(pieces), starts


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
