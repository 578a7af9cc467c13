"""Packing: one stream of predictions, cut into rows of equal length, without loops over tokens."""

from __future__ import annotations

import functools

import numpy as np

from research.data.pipeline import Batch

KEYS = ("tokens", "targets", "segments", "positions", "bytes")


def blank(length: int) -> Batch:
  """One row of padding, as `Rows` pads: (1, L) int32 zeros under every key."""
  return {key: np.zeros((1, length), np.int32) for key in KEYS}


class Rows:
  """The rows of a token stream; a `Source`.

  Prediction p has the input tokens[p] and the target tokens[p + 1]. The stream is a circle: after
  the last document comes end-of-text, which is how the first one begins. A row is L predictions
  in turn; the last row of an epoch is padded. So every prediction comes once in every epoch,
  wherever the circle is cut.
  """

  def __init__(
    self,
    tokens: np.ndarray,
    documents: np.ndarray,
    bytes_of: np.ndarray,
    length: int,
    moving: bool,
  ):
    """Args:
    tokens: (N,) every document led by end-of-text.
    documents: (documents + 1,) the places of those, and N.
    bytes_of: (V,) raw bytes of each token.
    length: L.
    moving: every epoch but the first is cut at another place, so that rows differ.
    """
    # asarray: a view without the memmap class, whose every operation costs microseconds.
    self._tokens, self._bytes_of = np.asarray(tokens), bytes_of.astype(np.int32)
    self._size, self._length, self._moving = len(tokens), length, moving
    # Places where documents begin; once more after N, for rows that go over the cut.
    starts = np.asarray(documents[:-1])
    self._starts = np.concatenate([starts, starts[starts < length] + self._size])
    self._columns = np.arange(length + 1)
    self.shift = functools.lru_cache(maxsize=16)(self._shift)  # seeding costs more than a batch

  def __len__(self) -> int:
    return -(-self._size // self._length)

  def _shift(self, epoch: int) -> int:
    """Where the circle is cut: 0 in epoch 0, else a place under L drawn from the epoch's number."""
    if epoch == 0 or not self._moving:
      return 0
    return int(np.random.RandomState(epoch % 2**32).randint(min(self._length, self._size)))

  def take(self, indices: np.ndarray, epoch: int) -> Batch:
    """Rows `indices` (B,) as int32 arrays (B, L); the keys are described in `pipeline`."""
    B, L = len(indices), self._length
    first_B = np.asarray(indices, np.int64) * L
    left_B = np.minimum(self._size - first_B, L)  # predictions that the last row has
    first_B += self.shift(epoch)

    places_BL = first_B[:, None] + self._columns
    tokens_BL = self._tokens.take(places_BL, mode="wrap").astype(np.int32)
    inputs_BL, targets_BL = tokens_BL[:, :-1].copy(), tokens_BL[:, 1:].copy()

    # Documents that begin inside a row, not at its first place, are where segments change.
    low_B = self._starts.searchsorted(first_B, "right")
    high_B = self._starts.searchsorted(first_B + L, "left")
    counts_B = high_B - low_B
    rows = np.repeat(np.arange(B), counts_B)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts_B) - counts_B, counts_B)
    columns = self._starts[low_B[rows] + within] - first_B[rows]

    begins_BL = np.zeros((B, L), np.int32)
    begins_BL[:, 0] = 1
    begins_BL[rows, columns] = 1
    segments_BL = np.cumsum(begins_BL, axis=1, dtype=np.int32)
    # Each beginning writes how far it is along; the largest so far is the present document's.
    begins_BL[:, 0] = 0
    begins_BL[rows, columns] = columns
    positions_BL = self._columns[:L].astype(np.int32) - np.maximum.accumulate(begins_BL, axis=1)
    bytes_BL = self._bytes_of.take(targets_BL)
    batch = dict(zip(KEYS, (inputs_BL, targets_BL, segments_BL, positions_BL, bytes_BL)))
    for row in np.flatnonzero(left_B < L):
      for value in batch.values():
        value[row, left_B[row] :] = 0
    return batch
