"""What a child does with files: it reads them as a run would, and returns what came of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from . import harms


def files(skip: float = 0.0, separator: str | None = None) -> Any:
  """The documents of the file `x.*` of this folder."""
  from research import data

  return _told(lambda: list(data.Files("x.*", separator=separator, skip=skip).read()))


def pairs(skip: float = 0.0) -> Any:
  """How many pairs there are in a table of captions, and the shape of a batch of pictures."""
  from research import data

  def read():
    table = next(path.name for path in sorted(Path().iterdir()) if path.name.startswith("pairs."))
    pictures = data.Captioned(table, "pictures")
    dataset = data.ImageText(pictures, data.Bytes(), 8, 16, split=data.ByHash(0.0), skip=skip)
    source = dataset.source("train")
    return [len(source), *source.take(np_range(len(source)), 0)["image"].shape[1:]]

  return _told(read)


def tokens(path: str) -> Any:
  """A text by a tokenizer's file, there and back."""
  from research import data

  def read():
    vocabulary = data.HuggingFace(path).fit()
    return [[int(i) for i in vocabulary.encode(harms.SENTENCE)], vocabulary.vocab_size]

  return _told(read)


def saved(path: str) -> Any:
  """The same by a vocabulary that a run keeps."""
  from research import data

  def read():
    vocabulary = data.load_vocabulary(path)
    return [[int(i) for i in vocabulary.encode(harms.SENTENCE)], vocabulary.vocab_size]

  return _told(read)


def records(split: str = "train") -> Any:
  """The documents of a TFDS dataset in this folder."""
  from research import data

  return _told(lambda: list(data.TFDS("poems", split=split, data_dir=os.getcwd()).read()))


def prepared() -> Any:
  """The first batch of a text that is prepared in the folder `cache`, or was before."""
  from research import data

  os.environ["RESEARCH_CACHE"] = os.path.abspath("cache")
  dataset = data.Text(
    data.Files("x.txt", separator="\n"), data.SentencePiece(300), 16, split=data.Tail(0.1)
  )
  source = dataset.source("train")
  batch = source.take(np_range(4), 0)
  return [len(source), {key: value.tolist() for key, value in batch.items()}]


def np_range(count: int) -> Any:
  import numpy as np

  return np.arange(count)


def make(kind: str) -> None:
  """Writes whole files of a kind into this folder."""
  getattr(harms, f"make_{kind}")(Path())


def _told(read: Any) -> Any:
  """What it reads, or the one line that says why it does not."""
  from research.errors import UserError

  try:
    return json.loads(json.dumps(read()))  # a lone surrogate would be none, as everywhere
  except UserError as error:
    return {"error": str(error)}
