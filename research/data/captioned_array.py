"""Pictures in one array, row by row beside the lines of a table of their captions."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
import zipfile
from collections.abc import Iterator

import numpy as np

from research.data import caption_columns, captioned, reading
from research.data.bad_records import BadRecords
from research.data.caption_columns import Names
from research.data.captioned import Picture, Place
from research.data.paths import reach
from research.errors import UserError, nearest, reason

RATIO = 1_000  # bytes that come out of each compressed one; what is more was made to fill a memory


@dataclasses.dataclass(frozen=True)
class CaptionedArray:
  """Line i of a table is said of row i of an array.

  Attributes:
    table: as of `Captioned`.
    array: a .npy file, or .npz; uint8 (N, Y, X), (N, Y, X, 3), or with a fourth for transparency.
    caption: as of `Captioned`.
    key: of an .npz with several arrays.
  """

  table: str
  array: str
  caption: Names = "caption"
  key: str | None = None

  def fingerprint(self) -> str:
    """Of the contents of both files."""
    total = hashlib.blake2b(repr((self.caption, self.key)).encode(), digest_size=16)
    for path in map(reach, (self.table, self.array)):
      with reading.opened(path) as file:
        total.update(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest())
    return total.hexdigest()

  def read(self, bad: BadRecords) -> Iterator[Picture]:
    """The pictures in the order of the lines."""
    rows = list(captioned.rows(reach(self.table), caption_columns.needs(self.caption)))
    pictures = len(_loaded(self))
    if len(rows) != pictures:
      raise UserError(
        f"{self.table} has {len(rows):,} lines and {self.array} {pictures:,} pictures; line i must "
        "be said of picture i."
      )
    captions = caption_columns.Captions(self.caption)
    for i, row in enumerate(rows):
      try:
        said = captions.of(row)
      except UserError as error:
        bad.leave_out(str(error))
      else:
        yield Picture(row.where, str(i), Place(self.array, i), said, row.cells)
    captions.check()

  def load(self, place: Place) -> np.ndarray:
    """The pixels of a row."""
    return _loaded(self)[place.offset]

  def uncaptioned(self) -> list[str]:
    """None: every row has a line."""
    return []


def _loaded(source: CaptionedArray) -> np.ndarray:
  path = reach(source.array)
  try:
    found = path.stat()
  except OSError as error:
    raise _none(path, error) from None
  return _pixels(source, path, (found.st_mtime_ns, found.st_size))


@functools.lru_cache(maxsize=2)
def _pixels(source: CaptionedArray, path: pathlib.Path, stamp: tuple[int, int]) -> np.ndarray:
  del stamp  # only there to notice files that have changed
  try:
    if zipfile.is_zipfile(path):
      _check_size(path)
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    found = found if isinstance(found, np.ndarray) else _chosen(found, source)
  except UserError:
    raise
  except Exception as error:  # zlib, zipfile and NumPy have nothing in common
    raise _none(path, error) from None
  if found.dtype != np.uint8 or found.ndim not in (3, 4) or found.shape[3:] not in ((), (3,), (4,)):
    raise UserError(
      f"{path} holds {found.dtype} {found.shape}; pictures are uint8 (N, Y, X), (N, Y, X, 3) or "
      "(N, Y, X, 4)."
    )
  return found


def _none(path: pathlib.Path, error: Exception) -> UserError:
  return UserError(f"{path} is no array of pictures ({reason(error)}); check it.")


def _check_size(path) -> None:
  with zipfile.ZipFile(path) as archive:
    size = sum(member.file_size for member in archive.infolist())
  if size > RATIO * path.stat().st_size:
    raise UserError(f"{path} grows to more than {RATIO} times its size, as a bomb would.")


def _chosen(arrays, source: CaptionedArray) -> np.ndarray:
  with arrays:
    names = arrays.files
    if source.key is None and len(names) == 1:
      return arrays[names[0]]
    if source.key not in names:
      raise UserError(
        f"{source.array} has no array {source.key!r}; choose with key= from {', '.join(names)}."
        f"{nearest(source.key or '', names)}"
      )
    return arrays[source.key]
