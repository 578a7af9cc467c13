"""Text as a dataset for language models: cleaned, split, tokenized once, packed into rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from research.data import corpus, packing, pipeline
from research.data.corpus import Documents
from research.data.splits import TRAIN, ByHash, Tail
from research.data.vocabulary import Tokenizer, Vocabulary
from research.errors import UserError

FORMAT = 2  # raise it whenever the files of the cache, or what is in them, change


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
    corpus.check(self)

  def prepare(self) -> PreparedText:
    """Cleans, splits and tokenizes, or opens what was prepared before from the same contents.

    Raises:
      UserError: the documents cannot be read, or a split of them is empty.
    """
    return PreparedText(corpus.prepare("text", FORMAT, self, _tokenize), self.length)

  def source(self, split: str) -> packing.Rows:
    """The rows of "train" or "heldout"."""
    return self.prepare().source(split)

  def example(self) -> pipeline.Batch:
    """One row of zeros: the keys, shapes and dtypes of what `source` gives, and nothing opened."""
    return packing.blank(self.length)


class PreparedText:
  """A text dataset on disk, memory-mapped; opening it reads nothing of the tokens.

  Attributes:
    vocabulary: the fitted tokenizer.
    cleaning: what cleaning kept and dropped, before the split.
    folder: where it lies; `folder`/vocabulary can be copied into a run.
  """

  def __init__(self, prepared: corpus.Prepared, length: int):
    self._prepared, self.length = prepared, length
    self.folder, self.cleaning = prepared.folder, prepared.cleaning
    self.vocabulary = prepared.vocabulary

  def tokens(self, split: str) -> np.ndarray:
    """(N,) uint16 or uint32: every document led by end-of-text, [E t1..tn E t1..tm ...].

    Place p is the input of prediction p; its target is at p + 1, and E after the last.
    """
    return self._prepared.array(split, "tokens")

  def documents(self, split: str) -> np.ndarray:
    """(documents + 1,) int64 boundaries in `tokens`: document i is tokens[b[i] : b[i + 1]].

    The first token of each is end-of-text; without it, b[i] + 1.
    """
    return self._prepared.array(split, "documents")

  def raw_bytes(self, split: str) -> int:
    """UTF-8 bytes of the split's clean documents."""
    return self._prepared.raw_bytes(split)

  def source(self, split: str) -> packing.Rows:
    """The rows of the split; those of "train" are cut elsewhere in every epoch.

    Raises:
      UserError: the split is empty, or shorter than one row.
    """
    tokens = self.tokens(split)
    if not len(tokens):
      raise UserError(f"the {split} split is empty; hold a share above 0 out, as ByHash(0.05) does")
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


def _tokenize(fitted: Vocabulary, texts: Sequence[str], split: str) -> dict[str, np.ndarray]:
  dtype = np.uint16 if fitted.vocab_size <= 2**16 else np.uint32
  end = np.array([fitted.end], dtype)
  pieces: list[np.ndarray] = [np.zeros(0, dtype)]
  lengths: list[int] = []
  for part in corpus.parts(texts, split):
    for ids in fitted.encode_all(part):
      pieces += [end, ids.astype(dtype)]
      lengths.append(1 + len(ids))
  starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
  return {"tokens": np.concatenate(pieces), "documents": starts}
