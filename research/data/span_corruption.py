"""Rows of text with spans cut out: the source is what is left, the target what was there (T5).

Raffel et al., 2019, section 3.1.4, and the authors' `random_spans_noise_mask`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from research.data import packing, pipeline
from research.data.draws import uniform
from research.data.pair_rows import OF_SOURCE
from research.data.text import PreparedText, Text
from research.data.vocabulary import Vocabulary
from research.errors import UserError

SENTINELS = tuple(f"<extra_id_{i}>" for i in range(100))
KEYS = (*OF_SOURCE, "tokens", "targets", "segments", "positions")


@dataclasses.dataclass(frozen=True)
class SpanCorruption:
  """Text from which a model restores missing spans; a `Dataset`.

  A row of `text.length` tokens loses a share of them, in spans; each is replaced by a sentinel of
  its own. The target is every sentinel with what it stands for. Both end with end-of-text, by which
  the target's input begins as well. As many tokens and spans are cut from every row, so that
  nothing is padded; which ones is a function of (seed, epoch, number of the row). As with T5, a row
  may hold several documents, end-of-text between them, and all of it is one text.

  Attributes:
    text: the tokens; its tokenizer has the tokens of `SENTINELS`: `HuggingFace(path)` of a T5, or
      `SentencePiece(vocab_size, special=SENTINELS)`.
    rate: share of the tokens that are cut out.
    span: mean length of a span.
    seed: of the spans.
  """

  text: Text
  rate: float = 0.15
  span: float = 3.0
  seed: int = 0

  def __post_init__(self):
    if not 0 < self.rate < 1:
      raise UserError(f"rate={self.rate} is a share of the tokens; choose one between 0 and 1")
    if self.span < 1:
      raise UserError(f"span={self.span} is a mean length; choose 1 or more")
    if self.text.length < 4:
      raise UserError(f"text.length={self.text.length} has no room for spans; choose 4 or more")

  def prepare(self) -> PreparedText:
    """That of the text."""
    return self.text.prepare()

  def source(self, split: str) -> CorruptedRows:
    """The rows of "train" or "heldout".

    Raises:
      UserError: the vocabulary has fewer sentinels than a row has spans.
    """
    prepared = self.prepare()
    count = len(prepared.tokens(split)) // self.text.length
    return CorruptedRows(self, prepared.source(split), count, prepared.vocabulary)

  def sizes(self) -> tuple[int, int]:
    """Tokens and spans that are cut from a row."""
    tokens = self.text.length
    cut = min(max(round(self.rate * tokens), 1), tokens - 1)
    return cut, min(max(round(cut / self.span), 1), tokens - cut)

  def example(self) -> pipeline.Batch:
    """One row of zeros: the keys, shapes and dtypes of what `source` gives, and nothing opened."""
    cut, spans = self.sizes()
    lengths = {True: self.text.length - cut + spans + 1, False: cut + spans + 1}
    return {key: np.zeros((1, lengths[key in OF_SOURCE]), np.int32) for key in KEYS}


class CorruptedRows:
  """The whole rows of a text, corrupted; a `Source`."""

  def __init__(
    self, dataset: SpanCorruption, rows: packing.Rows, count: int, vocabulary: Vocabulary
  ):
    spans = dataset.sizes()[1]
    present = [vocabulary.special[name] for name in SENTINELS if name in vocabulary.special]
    if spans > len(present):
      raise UserError(
        f"a row of {dataset.text.length} tokens loses {spans} spans, and the vocabulary has "
        f"{len(present)} of the sentinels {SENTINELS[0]}, {SENTINELS[1]}, ...; use that of a T5, "
        "SentencePiece(vocab_size, special=data.SENTINELS), or shorter rows"
      )
    self._dataset, self._rows, self._count = dataset, rows, count
    self._end, self._sentinels = vocabulary.end, np.array(present[:spans])

  def __len__(self) -> int:
    return self._count

  def take(self, indices: np.ndarray, epoch: int) -> pipeline.Batch:
    """Rows `indices` (B,); the keys are described in `pipeline`."""
    tokens_BL = self._rows.take(indices, epoch)["tokens"]
    B, T = tokens_BL.shape
    cut_BT = spans(*self._dataset.sizes(), uniform(self._dataset.seed, epoch, indices, T))
    source_BM, target_BL = (self._marked(tokens_BL, hidden) for hidden in (cut_BT, ~cut_BT))
    batch = {
      "source": source_BM,
      "tokens": np.concatenate([np.full((B, 1), self._end), target_BL[:, :-1]], axis=1),
      "targets": target_BL,
    }
    for prefix, x in (("source_", source_BM), ("", target_BL)):
      batch[f"{prefix}segments"] = np.ones_like(x)
      batch[f"{prefix}positions"] = np.broadcast_to(np.arange(x.shape[1]), x.shape)
    return {key: np.ascontiguousarray(batch[key], np.int32) for key in KEYS}

  def _marked(self, tokens_BT: np.ndarray, hidden_BT: np.ndarray) -> np.ndarray:
    """What is not hidden, a sentinel for each hidden span, and end-of-text."""
    begins_BT = hidden_BT.copy()
    begins_BT[:, 1:] &= ~hidden_BT[:, :-1]
    number_BT = np.cumsum(begins_BT, axis=1) - 1
    marked_BT = np.where(begins_BT, self._sentinels[np.maximum(number_BT, 0)], tokens_BT)
    kept = marked_BT[~hidden_BT | begins_BT].reshape(len(tokens_BT), -1)
    return np.pad(kept, ((0, 0), (0, 1)), constant_values=self._end)


def spans(cut: int, count: int, uniform_BT: np.ndarray) -> np.ndarray:
  """(B, T) bool: which tokens are cut, `cut` of each row in `count` spans of one or more.

  What stays is cut into as many spans, and the two kinds take turns; all ways are equally likely.

  Args:
    uniform_BT: numbers in [0, 1).
  """
  stays = uniform_BT.shape[1] - cut
  kept_BT, cut_BT = _numbers(uniform_BT[:, :stays], count), _numbers(uniform_BT[:, stays:], count)
  turns_BT = np.concatenate([2 * kept_BT, 2 * cut_BT + 1], axis=1)
  return np.argsort(turns_BT, axis=1, kind="stable") >= stays


def _numbers(uniform_BT: np.ndarray, count: int) -> np.ndarray:
  """The number of the span that each of T things is in, where they are cut at random places."""
  begins_BT = np.zeros(uniform_BT.shape, np.int64)
  # The first thing begins the first span; the least numbers of the others begin the rest.
  places_BS = 1 + np.argsort(uniform_BT[:, 1:], axis=1)[:, : count - 1]
  np.put_along_axis(begins_BT, places_BS, 1, axis=1)
  return np.cumsum(begins_BT, axis=1)
