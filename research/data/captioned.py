"""Pictures with captions, as a table and a folder of one's own; and what every such source gives.

A line of the table is a picture with a caption, or with several; a picture may have several lines.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from research.data import images, reading, tables
from research.data.bad_records import BadRecords
from research.data.caption_columns import Captions, Names, field, needs, one
from research.data.images import Unreadable
from research.data.paths import reach
from research.errors import UserError, shown


class Place(NamedTuple):
  """Where a picture's bytes lie: in which file, from where on, and how many; -1 is all of them."""

  file: str
  offset: int = 0
  size: int = -1


class Picture(NamedTuple):
  """A picture and what is said of it.

  Attributes:
    where: it was found, for messages.
    name: of its own, by which it is held out.
    place: of its bytes.
    captions: one or more, cleaned.
    columns: what else is said of it, by name.
    again: further rows of a table that name it.
  """

  where: str
  name: str
  place: Place
  captions: tuple[str, ...]
  columns: dict[str, Any]
  again: tuple[tables.Row, ...] = ()

  def cell(self, name: str) -> Any:
    """What stands in a column, or None.

    Raises:
      UserError: rows that name the picture do not say the same.
    """
    found = field(self.columns, name)
    for row in self.again:
      if (other := field(row.cells, name)) != found:
        raise UserError(
          f"{self.where}, and {row.where}: {name!r} of {self.name[:80]} is {shown(found)} and "
          f"{shown(other)}; a picture has one, so say the same in all of its lines"
        )
    return found


class Pictures(Protocol):
  """Where pictures with captions come from: a frozen value that opens nothing when constructed."""

  def fingerprint(self) -> str:
    """Changes whenever `read` or `load` would give others."""

  def read(self, bad: BadRecords) -> Iterator[Picture]:
    """The pictures in an order that is always the same; `bad` takes what cannot be one.

    Raises:
      UserError: there is nothing to read, or it is not to be trusted.
    """

  def load(self, place: Place) -> bytes | np.ndarray:
    """A picture: a file's bytes, or its pixels (Y, X), (Y, X, 3) or (Y, X, 4) uint8.

    Raises:
      Unreadable: it is not there.
    """

  def uncaptioned(self) -> list[str]:
    """Names of the pictures that lie there without a caption."""


@dataclasses.dataclass(frozen=True)
class Captioned:
  """A table with a line for each picture, and the folder that these lie in.

  Attributes:
    table: a .jsonl file, or a .tsv or .csv one whose first line names the columns; plain or .gz.
    folder: that the table's files lie in. Both may lead through a tar or zip ("flickr.zip/images").
    image: the column with a picture's path in the folder.
    caption: the column or columns with captions, each of which may hold a list of them; of .jsonl
      objects "names/en" is the field "en" of the object in "names". "{name}: {keywords}" is one
      caption made of columns, where none of them is empty; of a list all, with commas.
    only: (column, value) pairs; lines in which a column holds something else are not read.
  """

  table: str
  folder: str
  image: str = "image"
  caption: Names = "caption"
  only: tuple[tuple[str, Any], ...] = ()

  def fingerprint(self) -> str:
    """Of the table's contents, and of the sizes and dates of the files that it names."""
    told = (self.image, self.caption, self.only)
    total = hashlib.blake2b(repr(told).encode(), digest_size=16)
    for picture in self.read(BadRecords(1.0)):
      total.update(repr(picture).encode())
      try:
        found = os.stat(picture.place.file)
        total.update(f"{found.st_size} {found.st_mtime_ns}".encode())
      except OSError:
        total.update(b"missing")
    return total.hexdigest()

  def read(self, bad: BadRecords) -> Iterator[Picture]:
    """The pictures, in the order of their first lines.

    `bad` takes the lines that cannot be used: no caption, or a file that lies outside the folder.
    """
    home = self._home()
    files: dict[pathlib.Path, Picture] = {}
    captions = Captions(self.caption)
    columns = [column for column, _ in self.only]
    for row in rows(reach(self.table), needs(self.image, self.caption, *columns)):
      if not row.problem and any(field(row.cells, k) != value for k, value in self.only):
        continue
      try:
        file = inside(home, row.where, one(row, self.image))
        said = captions.of(row)
      except UserError as error:
        bad.leave_out(str(error))
        continue
      before = files.get(file)
      if before is not None:
        files[file] = before._replace(
          captions=(*before.captions, *said), again=(*before.again, row)
        )
      else:
        name = file.relative_to(home).as_posix()
        files[file] = Picture(row.where, name, Place(str(file)), said, row.cells)
    captions.check()
    if not files and not bad.count:
      which = f" with {' and '.join(f'{k}={v!r}' for k, v in self.only)}" if self.only else ""
      raise UserError(
        f"{self.table} names no pictures{which}; give a table with a line for each pair."
      )
    yield from files.values()

  def load(self, place: Place) -> bytes:
    """All of a file."""
    return part_of(place)

  def uncaptioned(self) -> list[str]:
    """Pictures in the folder that the table does not name."""
    home = self._home()
    whole = dataclasses.replace(self, only=())  # lines that are not read have captions, too
    named = {picture.name for picture in whole.read(BadRecords(1.0))}
    return [name for name in images.in_folder(home) if name not in named]

  def _home(self) -> pathlib.Path:
    home = reach(self.folder).resolve()
    if not home.is_dir():
      raise UserError(f"{home} is no folder; give the one that the table's files lie in.")
    return home


def rows(path: pathlib.Path, columns: Sequence[str]) -> Iterator[tables.Row]:
  """The rows of a table, plain or .gz; UserError where it is none."""
  ending = "".join(path.suffixes[-2:]).removesuffix(".gz").lower()
  ending = ending if ending in tables.KINDS else path.suffix.lower()
  if ending not in tables.KINDS:
    known = ", ".join(tables.KINDS)
    raise UserError(f"{path} is no table of pairs; its name ends in one of {known}, or .gz.")
  yield from tables.rows(path, ending, reading.text(path), needs=columns)


def inside(home: pathlib.Path, where: str, name: str) -> pathlib.Path:
  """The file of this name in the folder; UserError where it would lie elsewhere."""
  try:
    file = (home / name).resolve()
  except (OSError, ValueError, RuntimeError):
    raise UserError(f"{where}: {name[:80]!r} cannot be a path.") from None
  if not file.is_relative_to(home):
    raise UserError(f"{where} names {name[:80]!r}, which lies outside {home}.")
  return file


def part_of(place: Place) -> bytes:
  """The bytes at a place; Unreadable where they are not there."""
  try:
    with open(place.file, "rb") as file:
      file.seek(place.offset)
      data = file.read(place.size)
  except OSError as error:
    raise Unreadable(error.strerror or str(error)) from None
  if place.size >= 0 and len(data) < place.size:
    raise Unreadable(f"{len(data):,} of {place.size:,} bytes are there")
  return data
