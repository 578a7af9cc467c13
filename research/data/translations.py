"""Sources with their targets as a dataset for encoder-decoders, several of them to a row."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from research.data import cache, corpus, pipeline, progress, tokenizers
from research.data.clean import Cleaning, clean, clean_all, digest
from research.data.pair_rows import KEYS, OF_SOURCE, PairRows, Side
from research.data.parallel import Pair, Parallel
from research.data.splits import HELDOUT, SPLITS, TRAIN, ByHash, check_whole
from research.data.vocabulary import Tokenizer, Vocabulary
from research.errors import UserError

FORMAT = 2  # raise it whenever the files of the cache, or what is in them, change
BETWEEN = "\n"  # stands between a source and its target while they are one document


@dataclasses.dataclass(frozen=True)
class Translations:
  """Sources with their targets, several to a row; a `Dataset`.

  Rows are packed rather than sorted into buckets of one length each: every batch has one shape, so
  that one program is compiled and every device has as much to do; little of a row is padding; and
  the order stays what it is for all datasets, a function of (seed, step) over rows. A pair sees
  nothing of the others in its row.

  Attributes:
    pairs: `LineAligned(source, target)` or `PairFiles(pattern)`.
    tokenizer: of the target and, unless it has its own, of the source. It learns from the train
      split, from both sides where it is of both.
    length: L, tokens of a row's targets; a target that is longer with its end-of-text is left out.
    source_length: M, tokens of a row's sources, which are treated alike; L where not given. Where
      sources have fewer tokens than targets, rows are fuller with fewer.
    source_tokenizer: of the source alone; None shares the vocabulary.
    heldout: pairs that are held out, where they are files of their own; what equals one of them
      is not trained on. None takes them from `pairs` by the split.
    split: says which of `pairs` are held out, without `heldout`.
    limit: bytes of the train split to use, at most, as of `Text`; no pair is cut.
    duplicates: pairs that equal one before are "dropped", or "kept".
  """

  pairs: Parallel
  tokenizer: Tokenizer
  length: int
  source_length: int | None = None
  source_tokenizer: Tokenizer | None = None
  heldout: Parallel | None = None
  split: ByHash = ByHash(heldout=0.02)  # noqa: RUF009 (frozen)
  limit: int | None = None
  duplicates: Literal["dropped", "kept"] = "dropped"

  def __post_init__(self):
    for name in ("length", "source_length"):
      if (size := getattr(self, name)) is not None and size < 2:
        raise UserError(f"{name}={size} has no room for a word and its end; choose 2 or more")
    corpus.check(self)
    check_whole(self.split)

  def prepare(self) -> PreparedTranslations:
    """Cleans, splits and tokenizes, or opens what was prepared before from the same contents.

    Raises:
      UserError: the pairs cannot be read, or a split of them is empty.
    """
    name = cache.key(
      FORMAT,
      *(None if part is None else part.fingerprint() for part in (self.pairs, self.heldout)),
      self.tokenizer.fingerprint(),
      None if self.source_tokenizer is None else self.source_tokenizer.fingerprint(),
      repr(self.split),
      self.limit,
      self.duplicates,
    )
    folder = cache.folder("translations", name, lambda folder: _write(folder, self))
    return PreparedTranslations(folder, self._lengths())

  def source(self, split: str) -> PairRows:
    """The rows of "train" or "heldout"."""
    return self.prepare().source(split)

  def example(self) -> pipeline.Batch:
    """One row of zeros: the keys, shapes and dtypes of what `source` gives, and nothing opened."""
    source, target = self._lengths()
    return {key: np.zeros((1, source if key in OF_SOURCE else target), np.int32) for key in KEYS}

  def _lengths(self) -> tuple[int, int]:
    return self.source_length or self.length, self.length


class PreparedTranslations:
  """Translations on disk, memory-mapped.

  Attributes:
    vocabulary: of the target.
    source_vocabulary: of the source, the same one where it is shared.
    cleaning: what cleaning kept and dropped, before the split.
    folder: where it lies.
  """

  def __init__(self, folder: Path, lengths: tuple[int, int]):
    """Args:
    folder: what `prepare` has written.
    lengths: of a row's sources and targets.
    """
    self._prepared, self._lengths, self.folder = corpus.Prepared(folder), lengths, folder
    self.vocabulary: Vocabulary = self._prepared.vocabulary
    self.cleaning: Cleaning = self._prepared.cleaning
    own = folder / "source_vocabulary"
    self.source_vocabulary = tokenizers.load(own) if own.is_dir() else self.vocabulary

  def source(self, split: str) -> PairRows:
    """The rows of a split.

    Raises:
      UserError: none of its pairs fits into a row.
    """
    source, target = (self._side(split, name) for name in ("source", "target"))
    return PairRows(source, target, self.vocabulary.bytes_of, self._lengths)

  def texts(self) -> list[Pair]:
    """The held-out pairs as they were written, all of them, in their order."""
    lines = self._prepared.array(HELDOUT, "text").tobytes().decode().split("\n")
    return list(zip(lines[::2], lines[1::2]))

  def _side(self, split: str, name: str) -> Side:
    return Side(*(self._prepared.array(split, f"{name}_{part}") for part in ("tokens", "starts")))


def _write(folder: Path, dataset: Translations) -> None:
  texts, cleaning = _divide(dataset)
  pairs = {split: [tuple(text.split(BETWEEN)) for text in texts[split]] for split in SPLITS}
  with progress.line("fitting the tokenizers"):
    sources, targets = (list(side) for side in zip(*pairs[TRAIN]))
    if dataset.source_tokenizer is None:
      source_words = target_words = dataset.tokenizer.fit(sources + targets)
    else:
      source_words, target_words = (
        dataset.source_tokenizer.fit(sources),
        dataset.tokenizer.fit(targets),
      )
      source_words.save(folder / "source_vocabulary")
  target_words.save(folder / "vocabulary")

  def arrays(split: str) -> dict[str, np.ndarray]:
    sources, targets = (list(side) for side in zip(*pairs[split])) if pairs[split] else ([], [])
    found = {
      **_tokenize("source", source_words, sources, split),
      **_tokenize("target", target_words, targets, split),
    }
    if split == HELDOUT:
      found["text"] = np.frombuffer("\n".join(texts[split]).encode(), np.uint8)
    return found

  corpus.save(folder, cleaning, texts, arrays)


def _divide(dataset: Translations) -> tuple[dict[str, list[str]], Cleaning]:
  """Pairs as documents, clean, by split; what is trained on in an order without meaning."""
  with progress.line("reading and cleaning") as show:
    documents, digests, cleaning = _clean(show(dataset.pairs.read()), dataset.duplicates)
  if not documents:
    raise UserError(f"{dataset.pairs} holds no pair with text on both sides; check the files")
  whole = dataclasses.replace(dataset, limit=None)  # which would cut a text
  if dataset.heldout is None:
    texts = corpus.divide(whole, documents, digests)
  else:
    heldout, their_digests, _ = _clean(dataset.heldout.read(), "kept")
    if not heldout:
      raise UserError(f"{dataset.heldout} holds no pair with text on both sides; check the files")
    known = set(their_digests)
    kept = [i for i, name in enumerate(digests) if name not in known]
    if not kept:
      raise UserError(f"all pairs of {dataset.pairs} are held out as well; give others")
    documents, digests = [documents[i] for i in kept], [digests[i] for i in kept]
    whole = dataclasses.replace(whole, split=ByHash(heldout=0.0))
    texts = {**corpus.divide(whole, documents, digests), HELDOUT: heldout}
  # Neighbours share a row: those of one text should not share all of them.
  return {**texts, TRAIN: sorted(_limited(texts[TRAIN], dataset.limit), key=digest)}, cleaning


def _limited(pairs: list[str], limit: int | None) -> list[str]:
  """Pairs of so many bytes at most, those that come first in the order that `corpus` has."""
  if limit is None:
    return pairs
  order = sorted(pairs, key=lambda pair: digest(pair)[8:])
  taken = corpus.within(dict(enumerate(order)), limit)
  if not taken:
    size = len(order[0].encode())
    raise UserError(f"limit={limit} is less than the {size} bytes of a pair; choose more, or None")
  return [*taken.values()]


def _clean(pairs, duplicates: str) -> tuple[list[str], list[bytes], Cleaning]:
  """Every pair as one document of two lines; where a side is empty there is nothing to learn."""
  lines = ([re.sub("[\r\n]+", " ", side).strip() for side in pair] for pair in pairs)
  documents = (
    BETWEEN.join(pair) if all(clean(side).strip() for side in pair) else "" for pair in lines
  )
  return clean_all(documents, duplicates)


def _tokenize(
  side: str, words: Vocabulary, texts: Sequence[str], split: str
) -> dict[str, np.ndarray]:
  """Texts led by end-of-text, one more at the end, and where each begins, and the end."""
  dtype = np.uint16 if words.vocab_size <= 2**16 else np.uint32
  end = np.array([words.end], dtype)
  pieces: list[np.ndarray] = []
  for part in corpus.parts(texts, f"{side}s of {split}"):
    for ids in words.encode_all(part):
      pieces.append(np.concatenate([end, ids.astype(dtype)]))
  starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
  return {f"{side}_tokens": np.concatenate([*pieces, end]), f"{side}_starts": starts}
