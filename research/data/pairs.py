"""Rows of two segments, drawn from sentences as a function of (seed, epoch, number of the row).

Devlin et al., 2018, appendix A.2, and the authors' create_pretraining_data.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from research.data import masking, pipeline
from research.data.draws import uniform
from research.data.vocabulary import Vocabulary
from research.errors import UserError

MARKS = ("[CLS]", "[SEP]", "[MASK]")
PAIR = 2  # sentences of a span at least, so that a second one can follow a first


class Pairs:
  """The pairs of a split; a `Source`.

  Every document is cut into spans of sentences that fill a row. An example is a span: its first
  sentences are one segment, and the others the second, unless a random place of another document
  is. The sentences that it displaces are not seen in that epoch.
  """

  def __init__(
    self,
    dataset: Any,
    vocabulary: Vocabulary,
    tokens: np.ndarray,
    sentences: np.ndarray,
    documents: np.ndarray,
  ):
    """Args:
    dataset: `SentencePairs`.
    vocabulary: with the tokens of `MARKS`.
    tokens: (N,) of all sentences, one after another.
    sentences: (sentences + 1,) their boundaries in `tokens`.
    documents: (documents + 1,) boundaries of the documents among the sentences.
    """
    if len(documents) < 3:
      raise UserError(
        "the second segment of half of the pairs is from another document, and the split has only "
        "one; give more documents, or say what separates them: Files(path, separator=...)"
      )
    # asarray: a view without the memmap class, whose every operation costs microseconds.
    self._tokens, self._sentences, self._documents = map(np.asarray, (tokens, sentences, documents))
    self._dataset, self._vocab_size = dataset, vocabulary.vocab_size
    self._cls, self._sep, self._mask = (vocabulary.special[name] for name in MARKS)
    self._continues = vocabulary.continues if dataset.unit == "words" else None
    self._room = dataset.length - len(MARKS)  # two of them are [SEP], one is [CLS]
    self._spans, self._document_of = spans(self._sentences, self._documents, self._room)

  def __len__(self) -> int:
    return len(self._document_of)

  def take(self, indices: np.ndarray, epoch: int) -> pipeline.Batch:
    """The pairs `indices` (B,); the keys are described in `pipeline`."""
    dataset, L = self._dataset, self._dataset.length
    draws = uniform(dataset.seed, epoch, indices, 8 + 3 * L)
    first_B2, second_B2, random_B = self.segments(np.asarray(indices, np.int64), draws[:, :8])

    columns_L = np.arange(L)
    a_B1, b_B1 = (np.diff(part_B2) for part_B2 in (first_B2, second_B2))
    in_first_BL = (columns_L >= 1) & (columns_L <= a_B1)
    in_second_BL = (columns_L >= a_B1 + 2) & (columns_L <= a_B1 + b_B1 + 1)
    places_BL = np.where(
      in_first_BL, first_B2[:, :1] + columns_L - 1, second_B2[:, :1] + columns_L - a_B1 - 2
    )
    free_BL = in_first_BL | in_second_BL
    tokens_BL = self._tokens[np.where(free_BL, places_BL, 0)].astype(np.int32)
    tokens_BL = np.where(free_BL, tokens_BL, self._sep)
    tokens_BL[:, 0] = self._cls
    present_BL = columns_L < a_B1 + b_B1 + len(MARKS)
    segments_BL = present_BL * (1 + (columns_L > a_B1 + 1))

    counts_B = np.maximum(1, np.rint(dataset.rate * present_BL.sum(axis=1)))
    hidden_BL, places_BT, targets_BT = masking.mask(
      tokens_BL,
      free_BL,
      counts_B,
      draws[:, 8:].reshape(-1, 3, L),
      room=masking.room(L, dataset.rate),
      stands_for=self._mask,
      vocab_size=self._vocab_size,
      continues_BL=None if self._continues is None else self._continues[tokens_BL],
      masked=dataset.masked,
      random=dataset.random,
    )
    batch = {
      "tokens": hidden_BL * present_BL,
      "segments": segments_BL,
      "places": places_BT,
      "targets": targets_BT,
      "random": random_B,
    }
    return {key: value.astype(np.int32) for key, value in batch.items()}

  def segments(
    self, indices: np.ndarray, draws_B8: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tokens of both segments, [begin, end) each, and whether the second is a random one."""
    sentences, documents = self._sentences, self._documents
    is_short_B, size_B, cut_B, is_random_B, document_B, start_B, *front_B2 = draws_B8.T
    begin_B, end_B = self._spans[indices], self._spans[indices + 1]
    wanted_B = np.where(
      is_short_B < self._dataset.short, 2 + _pick(size_B, self._room - 1), self._room
    )
    end_B = np.minimum(end_B, _reached(sentences, begin_B, wanted_B, least=PAIR))
    count_B = end_B - begin_B
    middle_B = begin_B + 1 + _pick(cut_B, count_B - 1)
    # A span of one sentence has nothing that follows.
    random_B = (is_random_B < 0.5) | (count_B == 1)

    own_B = self._document_of[indices]
    other_B = _pick(document_B, len(documents) - 2)
    other_B += other_B >= own_B
    from_B = documents[other_B] + _pick(start_B, documents[other_B + 1] - documents[other_B])
    left_B = wanted_B - (sentences[middle_B] - sentences[begin_B])
    until_B = np.minimum(documents[other_B + 1], _reached(sentences, from_B, left_B, least=1))
    from_B, until_B = (
      np.where(random_B, other, own) for other, own in ((from_B, middle_B), (until_B, end_B))
    )

    first_B2 = np.stack([sentences[begin_B], sentences[middle_B]], axis=1)
    second_B2 = np.stack([sentences[from_B], sentences[until_B]], axis=1)
    a_B, b_B = (part_B2[:, 1] - part_B2[:, 0] for part_B2 in (first_B2, second_B2))
    # As if tokens were taken away one by one, always from the longer segment.
    keep_a_B = np.minimum(a_B, np.maximum(self._room - b_B, -(-self._room // 2)))
    keep_b_B = np.minimum(b_B, self._room - keep_a_B)
    first_B2 = _shortened(first_B2, keep_a_B, front_B2[0])
    return first_B2, _shortened(second_B2, keep_b_B, front_B2[1]), random_B


def spans(sentences: np.ndarray, documents: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
  """Cuts documents into spans of two sentences or more that have `room` tokens, but for the last.

  Returns:
    (spans + 1,) boundaries among the sentences, and (spans,) the document of each span.
  """
  begins, owners = [], []
  begin, owner = documents[:-1], np.arange(len(documents) - 1)
  while len(begin):  # all documents at once, a span of each in turn
    begins.append(begin)
    owners.append(owner)
    begin = np.minimum(_reached(sentences, begin, room, least=PAIR), documents[owner + 1])
    more = begin < documents[owner + 1]
    begin, owner = begin[more], owner[more]
  begins, owners = np.concatenate(begins), np.concatenate(owners)
  order = np.argsort(begins, kind="stable")
  return np.append(begins[order], documents[-1]), owners[order]


def _reached(
  sentences: np.ndarray, begin: np.ndarray, wanted: np.ndarray | int, *, least: int
) -> np.ndarray:
  """The end of the sentences from `begin` on that have `wanted` tokens or more."""
  return np.maximum(begin + least, np.searchsorted(sentences, sentences[begin] + wanted))


def _pick(draw_B: np.ndarray, count_B: np.ndarray | int) -> np.ndarray:
  """One of 0, ..., count - 1."""
  return (draw_B * count_B).astype(np.int64)


def _shortened(part_B2: np.ndarray, keep_B: np.ndarray, draw_B: np.ndarray) -> np.ndarray:
  """`keep` tokens of a segment: what is too much is taken from its front and from its end."""
  begin_B = part_B2[:, 0] + _pick(draw_B, part_B2[:, 1] - part_B2[:, 0] - keep_B + 1)
  return np.stack([begin_B, begin_B + keep_B], axis=1)
