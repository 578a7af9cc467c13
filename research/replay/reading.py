"""The examples of a batch as one reads them: texts of tokens, and pictures.

Tokens that no text contains are shown by their names; the borders of what was packed into a row are
shown by a bar.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from research.data import captions
from research.data.outline import aloud
from research.report import contact_sheet

BORDER = " \u2502 "


def texts(dataset: Any, rows: Mapping[str, np.ndarray]) -> list[str]:
  """One text an example; "" where there is nothing to be read."""
  vocabulary = dataset.prepare().vocabulary if hasattr(dataset, "prepare") else None
  if "caption" in rows and vocabulary is not None:
    said = captions.texts(vocabulary, rows)
  elif "tokens" in rows:
    said = _packed(vocabulary, rows["tokens"], rows.get("segments"))
  else:
    said = [""] * len(next(iter(rows.values())))
  if "source" in rows:
    words = getattr(dataset.prepare(), "source_vocabulary", vocabulary) if vocabulary else None
    sources = _packed(words, rows["source"], rows.get("source_segments"))
    said = [f"{source}\n\u2192 {target}" for source, target in zip(sources, said)]
  if "label" in rows:
    labels = getattr(dataset.prepare(), "labels", None) if vocabulary else None
    said = [f"{text}\n= {_name(labels, int(x))}" for text, x in zip(said, rows["label"])]
  return said


def pictures(rows: Mapping[str, np.ndarray]) -> list[str] | None:
  """Each picture as the source of an image in a page; None where the batch has none."""
  if "image" not in rows or np.ndim(rows["image"]) != 4:
    return None
  return [contact_sheet.thumbnail(image) for image in rows["image"]]


def _packed(vocabulary: Any, tokens: np.ndarray, segments: np.ndarray | None) -> list[str]:
  said = []
  for row, of in zip(tokens, np.ones_like(tokens) if segments is None else segments):
    parts = [row[of == number] for number in np.unique(of[of > 0])]
    said.append(BORDER.join(_read(vocabulary, part) for part in parts))
  return said


def _read(vocabulary: Any, tokens: np.ndarray) -> str:
  """Without a vocabulary there are only the numbers."""
  return " ".join(map(str, tokens)) if vocabulary is None else aloud(vocabulary, tokens)


def _name(labels: Any, number: int) -> str:
  known = labels is not None and 0 <= number < len(labels)
  return labels.names[number] if known else f"label {number}"
