"""Where a dataset keeps its pictures: decoded once, or as they are and decoded when asked for."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from research.data import images, progress
from research.data.captioned import Picture, Pictures, Place
from research.data.images import Unreadable

AT_ONCE = 256  # pictures decoded before they are written
KEEP = ("pixels", "files")


def write(
  found: Iterable[Picture], source: Pictures, size: int, keep: str, folder: pathlib.Path
) -> Iterator[tuple[Picture, str]]:
  """Keeps pictures in `folder`, and gives each of them with what is wrong with it, if anything is.

  Those with nothing wrong are numbered in their order; `opened` reads them by these numbers.
  """
  return {"pixels": _write_pixels, "files": _write_places}[keep](found, source, size, folder)


def _write_pixels(found, source: Pictures, size: int, folder: pathlib.Path):
  def decoded(picture: Picture) -> np.ndarray:
    return images.read(source.load(picture.place), size, picture.name)

  shapes = []
  with (folder / "pixels.bin").open("wb") as out:
    for picture, image in _each(found, decoded, "decoding pictures"):
      if isinstance(image, str):
        yield picture, image
      else:
        out.write(image.tobytes())
        shapes.append(image.shape[:2])
        yield picture, ""
  np.save(folder / "shapes.npy", np.array(shapes, np.int64).reshape(-1, 2), allow_pickle=False)


def _write_places(found, source: Pictures, size: int, folder: pathlib.Path):
  del size

  def looked_at(picture: Picture) -> bool:
    images.check(source.load(picture.place), picture.name)
    return True

  files: dict[str, int] = {}
  places = []
  for picture, fine in _each(found, looked_at, "looking at pictures"):
    if isinstance(fine, str):
      yield picture, fine
    else:
      file, *where = picture.place
      places.append((files.setdefault(file, len(files)), *where))
      yield picture, ""
  np.save(folder / "places.npy", np.array(places, np.int64).reshape(-1, 3), allow_pickle=False)
  (folder / "files.json").write_text(json.dumps(list(files)) + "\n", encoding="utf-8")


def _each(found: Iterable[Picture], use: Callable[[Picture], object], doing: str):
  """Every picture with what `use` makes of it, or with the reason why it is unreadable."""

  def one(picture: Picture) -> object:
    try:
      return use(picture)
    except Unreadable as error:
      return str(error)

  with (
    warnings.catch_warnings(action="ignore"),  # Pillow's, on what is odd in a file
    progress.line(doing) as show,
    concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads,  # Pillow frees the others
  ):
    # In parts, for `map` holds all results that nobody has taken yet.
    parts = _in_parts(found)
    yield from show(pair for part in parts for pair in zip(part, threads.map(one, part)))


def _in_parts(found: Iterable[Picture]) -> Iterator[list[Picture]]:
  part = []
  for picture in found:
    part.append(picture)
    if len(part) == AT_ONCE:
      yield part
      part = []
  yield part


def opened(folder: pathlib.Path, source: Pictures, size: int) -> Pixels | Encoded:
  """What `write` left in the folder."""
  if (folder / "pixels.bin").exists():
    return Pixels(folder)
  return Encoded(folder, source, size)


class Pixels:
  """Pictures that were decoded once, memory-mapped."""

  def __init__(self, folder: pathlib.Path):
    self._shapes = np.load(folder / "shapes.npy")
    self._offsets = np.concatenate([[0], np.cumsum(3 * np.prod(self._shapes, axis=1))])
    self._pixels = np.memmap(folder / "pixels.bin", np.uint8, mode="r").view(np.ndarray)

  def read(self, i: int) -> np.ndarray:
    """(Y, X, 3) uint8, the shorter side as it was asked for."""
    return self._pixels[self._offsets[i] : self._offsets[i + 1]].reshape(*self._shapes[i], 3)


class Encoded:
  """Pictures that stay where they are."""

  def __init__(self, folder: pathlib.Path, source: Pictures, size: int):
    self._source, self._size = source, size
    self._places = np.load(folder / "places.npy", mmap_mode="r")
    self._files = json.loads((folder / "files.json").read_text(encoding="utf-8"))

  def read(self, i: int) -> np.ndarray:
    """The same; Unreadable where the picture has become so, or never was but at its beginning."""
    file, offset, size = map(int, self._places[i])
    place = Place(self._files[file], offset, size)
    try:
      return images.read(self._source.load(place), self._size, place.file)
    except Unreadable as error:
      raise Unreadable(f"{place.file} at {offset} cannot be read ({error})") from None
