"""The nats per token of a model that knows nothing but how often each token comes: its unigrams.

They are the entropy of the targets' frequencies, with Miller and Madow's correction (1955): of n
tokens, of which k kinds occur, the plain estimate is too low by about (k - 1) / 2n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

ENOUGH = 1_000_000  # tokens, after which nothing is counted any more


class Unigrams:
  """Counts the targets of batches."""

  def __init__(self):
    self._counts = np.zeros(0, np.int64)
    self._tokens = 0

  def see(self, rows: Mapping[str, np.ndarray]) -> None:
    """Counts a batch; one without targets says nothing."""
    if self._tokens >= ENOUGH:
      return
    targets = _targets(rows)
    if targets is None or not targets.size:
      return
    counts = np.bincount(targets[: ENOUGH - self._tokens])
    if len(counts) > len(self._counts):
      counts, self._counts = self._counts, counts
    self._counts[: len(counts)] += counts
    self._tokens += min(targets.size, ENOUGH - self._tokens)

  def entropy(self) -> float:
    """Nats per token; NaN before anything was counted."""
    if not self._tokens:
      return math.nan
    counts = self._counts[self._counts > 0]
    shares = counts / self._tokens
    plain = -float((shares * np.log(shares)).sum())
    return plain + (len(counts) - 1) / (2 * self._tokens)


def _targets(rows: Mapping[str, np.ndarray]) -> np.ndarray | None:
  """The tokens that are predicted, without padding; see the keys of a batch in `data.pipeline`."""
  targets = rows.get("targets")
  for key in ("places", "segments"):  # of masked words their places say which there are
    if targets is not None and key in rows and rows[key].shape == targets.shape:
      return targets[rows[key] > 0]
  return None
