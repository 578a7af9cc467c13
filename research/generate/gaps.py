"""Texts with gaps, for a model that restores what is missing (T5; Raffel et al., 2019).

A gap is written as a sentinel, `<extra_id_0>`, `<extra_id_1>`, ... in this order. The target that a
model writes is every sentinel with what belongs in its place.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from research.data.span_corruption import SENTINELS

NAMES = SENTINELS
GAP = re.compile("(<extra_id_[0-9]+>)")


def encode(vocabulary: Any, text: str) -> tuple[np.ndarray, int]:
  """(n,) int32 tokens of a source with its end-of-text, and how many gaps are in it.

  What looks like a sentinel is text where the vocabulary has none of this name.
  """
  tokens: list[int] = []
  found, run = 0, ""
  for part in GAP.split(text):
    if part not in vocabulary.special:
      run += part
      continue
    tokens += [*vocabulary.encode(run).tolist(), vocabulary.special[part]]
    found, run = found + 1, ""
  tokens += [*vocabulary.encode(run).tolist(), vocabulary.end]
  return np.array(tokens, np.int32), found


def filled(vocabulary: Any, source: np.ndarray, target: np.ndarray) -> str:
  """The text of a source whose gaps hold what the target says; what it does not say stays a gap."""
  names = {vocabulary.special[name]: name for name in NAMES if name in vocabulary.special}
  spans: dict[int, list[int]] = {}
  for token in map(int, target):
    if token in names:
      spans[token] = last = []
    elif spans:
      last.append(token)
  text, run = "", []
  for token in map(int, source):
    if token in names and token not in spans:
      text, run = text + vocabulary.decode(run) + names[token], []
    else:
      run += spans.get(token, [token])
  return text + vocabulary.decode(run)
