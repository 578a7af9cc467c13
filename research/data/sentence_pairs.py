"""Pairs of segments for BERT: [CLS] first [SEP] second [SEP], half of the seconds from elsewhere.

Devlin et al., 2018, appendix A.2, and the authors' create_pretraining_data.py: a segment is one
or more sentences; both together fill a row, or in a few rows only a part of it, so that short
texts are learned too. What the authors draw ten times and write to files is drawn here whenever
it is read, anew in every epoch, as a function of (seed, epoch, number of the example).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from research.data import corpus, masking, pipeline
from research.data.corpus import Documents
from research.data.pairs import MARKS, Pairs
from research.data.sentences import sentences
from research.data.splits import ByHash, Tail
from research.data.vocabulary import Tokenizer, Vocabulary
from research.errors import UserError

FORMAT = 1  # raise it whenever the files of the cache, or what is in them, change
LONGEST = 128  # tokens of a sentence: what has no marks, such as a table, is cut


@dataclasses.dataclass(frozen=True)
class SentencePairs:
  """Documents as pairs of segments with masked tokens; a `Dataset`.

  Attributes:
    documents: `TFDS(name)` or `Files(pattern)`.
    tokenizer: with the tokens of `MARKS`: `HuggingFace(path)` of a BERT, or
      `SentencePiece(vocab_size, special=MARKS)`.
    length: L, tokens of a row, the three marks among them.
    rate: share of a row's tokens that are predicted.
    short: share of the rows that are shorter than they could be.
    unit: what is masked: single "tokens", or whole "words".
    masked, random: shares of the predicted tokens that become the mask, and a random token; the
      rest stays as it is (appendix C.2 of the paper tries others).
    split, limit, duplicates: as of `Text`.
    seed: of pairs and masks.
  """

  documents: Documents
  tokenizer: Tokenizer
  length: int
  rate: float
  short: float
  unit: masking.Unit = "tokens"
  masked: float = masking.MASKED
  random: float = masking.RANDOM
  split: ByHash | Tail = ByHash(heldout=0.05)  # noqa: RUF009 (frozen)
  limit: int | None = None
  duplicates: Literal["dropped", "kept"] = "dropped"
  seed: int = 0

  def __post_init__(self):
    if self.length < 8:
      raise UserError(f"length={self.length} has no room for two segments; choose 8 or more")
    if not 0 < self.rate < 1:
      raise UserError(f"rate={self.rate} is a share of the tokens; choose one between 0 and 1")
    if not 0 <= self.short <= 1:
      raise UserError(f"short={self.short} is a share of the rows; choose one from 0 to 1")
    if self.unit not in ("tokens", "words"):
      raise UserError(f"unit={self.unit!r} is neither 'tokens' nor 'words'")
    if min(self.masked, self.random) < 0 or self.masked + self.random > 1:
      raise UserError(
        f"masked={self.masked} and random={self.random} are shares of the predicted tokens; choose "
        "two from 0 on that are 1 at most together"
      )
    corpus.check(self)

  def prepare(self) -> corpus.Prepared:
    """Cleans, splits and tokenizes, or opens what was prepared before from the same contents.

    Raises:
      UserError: the documents cannot be read, a split of them is empty, or marks are missing.
    """
    return corpus.prepare("sentences", FORMAT, self, _tokenize)

  def source(self, split: str) -> Pairs:
    """The pairs of "train" or "heldout".

    Raises:
      UserError: there are no two documents.
    """
    prepared = self.prepare()
    arrays = (prepared.array(split, part) for part in ("tokens", "sentences", "documents"))
    return Pairs(self, prepared.vocabulary, *arrays)

  def example(self) -> pipeline.Batch:
    """One pair of zeros: the keys, shapes and dtypes of what `source` gives, and nothing opened."""
    L, T = self.length, masking.room(self.length, self.rate)
    shapes = {"tokens": (1, L), "segments": (1, L), "places": (1, T), "targets": (1, T)}
    return {key: np.zeros(shape, np.int32) for key, shape in {**shapes, "random": (1,)}.items()}


def _tokenize(fitted: Vocabulary, texts: Sequence[str], split: str) -> dict[str, np.ndarray]:
  """Sentences of at most `LONGEST` tokens; what has none is left out."""
  if missing := [name for name in MARKS if name not in fitted.special]:
    raise UserError(
      f"the vocabulary has no {' or '.join(missing)}; use that of a BERT, or learn one with "
      f"SentencePiece(vocab_size, special=data.MARKS)"
    )
  dtype = np.uint16 if fitted.vocab_size <= 2**16 else np.uint32
  pieces: list[np.ndarray] = [np.zeros(0, dtype)]
  lengths: list[int] = []
  documents = [0]
  for part in corpus.parts(texts, split):
    cut = [sentences(text) for text in part]
    tokens = iter(fitted.encode_all([sentence for text in cut for sentence in text]))
    for text in cut:
      for _ in text:
        ids = next(tokens).astype(dtype)
        pieces.append(ids)
        lengths += [len(ids[i : i + LONGEST]) for i in range(0, len(ids), LONGEST)]
      if len(lengths) > documents[-1]:
        documents.append(len(lengths))
  return {
    "tokens": np.concatenate(pieces),
    "sentences": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    "documents": np.array(documents, np.int64),
  }
