"""Rows of several pairs each: the sources on one side, their targets on the other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from research.data.pipeline import Batch
from research.errors import UserError

OF_SOURCE = ("source", "source_segments", "source_positions")
OF_TARGET = ("tokens", "targets", "segments", "positions", "bytes")
KEYS = OF_SOURCE + OF_TARGET


class Side(NamedTuple):
  """All texts of one side.

  Attributes:
    tokens: (N + 1,) every text led by end-of-text, and one more at the end.
    starts: (pairs + 1,) the places of those.
  """

  tokens: np.ndarray
  starts: np.ndarray


class PairRows:
  """The rows of a split; a `Source`.

  A row is as many pairs in turn as have room. Sources are ended by end-of-text; targets are led by
  it and predict it at their end.
  """

  def __init__(self, source: Side, target: Side, bytes_of: np.ndarray, lengths: tuple[int, int]):
    """Args:
    source, target: texts of as many pairs.
    bytes_of: (V,) raw bytes of each token of the target.
    lengths: M and L, tokens of a row on either side.
    """
    # asarray: a view without the memmap class, whose every operation costs microseconds.
    self._source, self._target = (Side(*map(np.asarray, side)) for side in (source, target))
    self._bytes_of, self._lengths = bytes_of.astype(np.int32), lengths
    self._rows = rows([self._source.starts, self._target.starts], lengths)
    self.pairs = int(np.sum(self._rows[:, 1] - self._rows[:, 0]))
    self.left_out = len(self._source.starts) - 1 - self.pairs
    if not self.pairs:
      raise UserError(
        f"none of {self.left_out:,} pairs fits into {lengths[0]} tokens of a source and "
        f"{lengths[1]} of a target; choose larger lengths"
      )

  @property
  def note(self) -> str:
    """What a user should know; "" where there is nothing."""
    if not self.left_out:
      return ""
    return (
      f"{self.left_out:,} of {self.left_out + self.pairs:,} pairs have more than "
      f"{self._lengths[0]} tokens of a source or {self._lengths[1]} of a target, and are left out"
    )

  def __len__(self) -> int:
    return len(self._rows)

  def take(self, indices: np.ndarray, epoch: int) -> Batch:
    """Rows `indices` (B,) as int32 arrays (B, L); the keys are described in `pipeline`."""
    first_B, last_B = self._rows[indices].T
    source_BL, there_BL, *of_source = _cut(self._source, first_B, last_B, self._lengths[0])
    places_BL, target_there_BL, *of_target = _cut(self._target, first_B, last_B, self._lengths[1])
    targets_BL = self._target.tokens[places_BL + 1]
    batch = {
      # A source has its end-of-text behind it, a target's input before it.
      "source": self._source.tokens[source_BL + 1] * there_BL,
      **dict(zip(OF_SOURCE[1:], of_source)),
      "tokens": self._target.tokens[places_BL] * target_there_BL,
      "targets": targets_BL * target_there_BL,
      **dict(zip(OF_TARGET[2:4], of_target)),
      "bytes": self._bytes_of[targets_BL] * target_there_BL,
    }
    return {key: value.astype(np.int32) for key, value in batch.items()}


def rows(starts: list[np.ndarray], lengths: tuple[int, int]) -> np.ndarray:
  """(rows, 2): the first pair of each row, and the first that it has not; long pairs are in none.

  Args:
    starts: of the texts of each side.
    lengths: of a row on each side.
  """
  fits = [
    np.searchsorted(places, places[:-1] + length, "right") - 1
    for places, length in zip(starts, lengths)
  ]
  ends = np.minimum.reduce(fits).tolist()  # for a row that begins with each pair
  found, pair = [], 0
  while pair < len(ends):
    if ends[pair] > pair:
      found.append((pair, ends[pair]))
    pair = max(ends[pair], pair + 1)
  return np.array(found, np.int64).reshape(-1, 2)


def _cut(side: Side, first_B: np.ndarray, last_B: np.ndarray, length: int) -> list[np.ndarray]:
  """Places of a row's tokens, which are there, the segments and the positions; all (B, L)."""
  begin_B1 = side.starts[first_B][:, None]
  places_BL = begin_B1 + np.arange(length)
  there_BL = places_BL < side.starts[last_B][:, None]
  places_BL = np.where(there_BL, places_BL, begin_B1)
  pairs_BL = np.searchsorted(side.starts, places_BL, "right") - 1
  segments_BL = (pairs_BL - first_B[:, None] + 1) * there_BL
  positions_BL = (places_BL - side.starts[pairs_BL]) * there_BL
  return [places_BL, there_BL, segments_BL, positions_BL]
