"""Pictures on a page, each small and inside of the page itself, so that it opens anywhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research import disk
from research.data import captions, pipeline
from research.data.images import Unreadable, read
from research.data.splits import SPLITS, TRAIN
from research.errors import UserError
from research.report import page

SIDE = 160  # pixels of a thumbnail's shorter side, or somewhat more
QUALITY = 80  # of its JPEG
EACH, EPOCHS = 24, 8  # pictures of a split; times that one of them is shown

Cell = tuple[str, str, str]  # of `page.pictures`


def thumbnail(picture: Path | np.ndarray) -> str:
  """A picture as the `src` of an image; nothing where it cannot be read.

  Small pixels (Y, X, 3) become squares, so that they can be told apart.
  """
  import PIL.Image

  written = io.BytesIO()
  if isinstance(picture, np.ndarray) and min(picture.shape[:2]) < SIDE:
    times = -(-SIDE // min(picture.shape[:2]))
    PIL.Image.fromarray(picture.repeat(times, 0).repeat(times, 1)).save(written, "PNG")
    return _inside(written, "png")
  try:
    pixels = read(picture, SIDE)
  except (Unreadable, UserError):
    return ""
  PIL.Image.fromarray(pixels).save(written, "JPEG", quality=QUALITY)
  return _inside(written, "jpeg")


def write(path: Path, title: str, facts: Sequence[str], sections: Iterable[tuple[str, Any]]):
  """Writes a page; folders above it are made.

  Args:
    path: of the page.
    title, facts: above the pictures.
    sections: a heading, or "", and the `Cell`s below it.

  Raises:
    UserError: the page cannot be written.
  """
  body = [f"<h1>{page.text(title)}</h1>"]
  body += [page.paragraph(page.text(fact), "status") for fact in facts]
  for heading, cells in sections:
    body += [f"<h2>{page.text(heading)}</h2>"] if heading else []
    body.append(page.pictures(cells))
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    disk.replace(path, page.page(title, body))
  except OSError as error:
    raise UserError(f"{path} cannot be written ({error.strerror}).") from None


def of_dataset(dataset: Any, seed: int = 0) -> Iterable[tuple[str, list[Cell]]]:
  """Sections of pictures with their captions, as training sees them.

  Args:
    dataset: whose batches have an "image" and a "caption".
    seed: of the batches of "train".
  """
  vocabulary = dataset.prepare().vocabulary
  for split in SPLITS:
    source = dataset.source(split)
    if not len(source):
      continue
    size = min(EACH, len(source))
    if split == TRAIN:
      batch = next(pipeline.batches(source, size, seed=seed, threads=0))
    else:  # it is not shuffled, and those beside one another may be alike
      batch = source.take(np.arange(size) * len(source) // size, 0)
    yield f"{split}: {size:,} of {len(source):,}", _cells(vocabulary, batch)
  # One and the same, as every epoch crops, changes or draws it.
  source = dataset.source(TRAIN)
  middle = np.array([len(source) // 2])
  takes = [source.take(middle, epoch) for epoch in range(EPOCHS)]
  again = {key: np.concatenate([batch[key] for batch in takes]) for key in takes[0]}
  yield f"one of train in {EPOCHS} epochs", _cells(vocabulary, again)


def _cells(vocabulary: Any, batch: pipeline.Batch) -> list[Cell]:
  texts = captions.texts(vocabulary, batch)
  return [(thumbnail(image), text, "") for image, text in zip(batch["image"], texts)]


def _inside(written: io.BytesIO, kind: str) -> str:
  return f"data:image/{kind};base64,{base64.b64encode(written.getvalue()).decode('ascii')}"
