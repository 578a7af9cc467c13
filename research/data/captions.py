"""Captions as rows of tokens, and the keys of a batch of pictures with captions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from research.data.vocabulary import Vocabulary
from research.errors import UserError


def rows(
  vocabulary: Vocabulary,
  captions: Sequence[str],
  length: int,
  start: int | None,
  pad: int = 0,
) -> tuple[np.ndarray, np.ndarray, int]:
  """(N, length) int32 tokens, (N,) int32 places of their ends, and how many were too long.

  A row is the start token where there is one, the caption, end-of-text, and padding. Of a caption
  that is too long the beginning is kept.
  """
  tokens = np.full((len(captions), length), pad, np.int32)
  ends = np.zeros(len(captions), np.int32)
  first = [] if start is None else [start]
  longest = length - 1 - len(first)
  cut = 0
  for i, ids in enumerate(vocabulary.encode_all(captions)):
    cut += len(ids) > longest
    row = np.concatenate([np.array(first, np.int32), ids[:longest], [vocabulary.end]])
    tokens[i, : len(row)], ends[i] = row, len(row) - 1
  return tokens, ends, cut


def texts(vocabulary: Vocabulary, batch: Mapping[str, np.ndarray]) -> list[str]:
  """The captions of a batch in words, without the token that may stand before each."""
  names = set(vocabulary.special.values())
  said = (tokens[:end] for tokens, end in zip(batch["caption"], batch["caption_end"]))
  return [
    vocabulary.decode(itertools.dropwhile(names.__contains__, map(int, tokens))).strip()
    for tokens in said
  ]


def blank(image_size: int, length: int) -> dict[str, np.ndarray]:
  """One pair of zeros: the keys, shapes and dtypes of a batch."""
  return {
    "image": np.zeros((1, image_size, image_size, 3), np.uint8),
    "picture": np.zeros(1, np.int32),
    "caption": np.zeros((1, length), np.int32),
    "caption_end": np.zeros(1, np.int32),
    "weights": np.ones(1, np.float32),
  }


def check_length(length: int) -> None:
  """Raises a UserError for a row that holds no caption."""
  if length < 3:
    raise UserError(f"length={length} holds no caption; choose 3 tokens or more.")


def note(cut: int, captions: int, length: int) -> str:
  """What a user should know of captions that are cut; "" where none is."""
  if not cut:
    return ""
  return f"{cut:,} of {captions:,} captions are longer than length={length} tokens and are cut"
