"""Where in a text each of its tokens stands, in characters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from research.data.hugging_face import HuggingFaceVocabulary
from research.data.vocabulary import Vocabulary
from research.errors import UserError


def located(vocabulary: Vocabulary, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
  """For every text its tokens (n,), and the characters [begin, end) that each covers, (n, 2).

  A token that is a part of a character covers it.

  Raises:
    UserError: the vocabulary does not keep the text, and does not know either.
  """
  if isinstance(vocabulary, HuggingFaceVocabulary) and not vocabulary.lossless:
    return vocabulary.located(texts)
  found = []
  for text, ids in zip(texts, vocabulary.encode_all(texts)):
    sizes = [len(letter.encode("utf-8", "replace")) for letter in text]
    owner = np.repeat(np.arange(len(text)), sizes)  # of every byte, its character
    ends = np.cumsum(vocabulary.bytes_of[ids])
    if (ends[-1] if len(ends) else 0) != len(owner):
      raise UserError(
        "the vocabulary changes texts, so that where a token stands is not known; use that of a "
        "BERT (HuggingFace), or SentencePiece"
      )
    begins = ends - vocabulary.bytes_of[ids]
    # A token of no bytes, of which there are none here, would stand at the end.
    places = np.stack([owner[begins], owner[ends - 1] + 1], axis=1) if len(ids) else []
    found.append((ids, np.asarray(places, np.int64).reshape(-1, 2)))
  return found
