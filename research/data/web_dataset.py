"""Pictures with captions in tars, as WebDataset and img2dataset write them, read by index.

The tars are looked through once; from then on every picture is read from its place in them, in any
order. So batches are a function of (seed, step) here too, and a run goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import itertools
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from research.data import caption_columns, captioned, member_names, reading, tables, tar
from research.data.archives import DAMAGED, OPENERS
from research.data.bad_records import BadRecords
from research.data.caption_columns import Names
from research.data.captioned import Picture, Place
from research.errors import UserError, reason

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")  # "shard-{000..127}.tar"
FORMAT = 2  # raise it whenever the same tars would give other places
SAID = 1 << 20  # bytes of a caption or of what else is said; more is none


@dataclasses.dataclass(frozen=True)
class WebDataset:
  """Samples are members of a tar with the same name up to its first dot: 0001.jpg, 0001.txt.

  Attributes:
    pattern: of the tars: a path, a glob, or "shard-{000..127}.tar". They are not compressed.
    caption: the ending of the member with the caption, or a field of a .json one: "json/caption".
      Several are several captions; a field may hold a list.
    image: endings of pictures; the first member with one of them is taken.
  """

  pattern: str
  caption: Names = "txt"
  image: tuple[str, ...] = ("jpg", "jpeg", "png", "webp")

  def paths(self) -> list[pathlib.Path]:
    """The tars, in their order.

    Raises:
      UserError: there is none, or one of a range is missing.
    """
    paths = []
    for pattern in _spread(str(reading.expanded(self.pattern))):
      found = [pattern] if pathlib.Path(pattern).exists() else sorted(glob.glob(pattern))
      if not found:
        raise UserError(f"no tar matches {pattern!r} (from {pathlib.Path.cwd()}); check the path.")
      paths += map(pathlib.Path, found)
    return paths

  def fingerprint(self) -> str:
    """Of the tars' names, sizes and dates; reading them would take as long as decoding."""
    said = (FORMAT, self.caption, self.image)
    total = hashlib.blake2b(repr(said).encode(), digest_size=16)
    for path in self.paths():
      found = path.stat()
      total.update(f"{path.resolve()} {found.st_size} {found.st_mtime_ns}\n".encode())
    return total.hexdigest()

  def read(self, bad: BadRecords) -> Iterator[Picture]:
    """The samples in their order; `bad` takes those without a picture or a caption.

    Raises:
      UserError: a tar is compressed or damaged, or a member would leave its folder.
    """
    captions = caption_columns.Captions(self.caption)
    for path in self.paths():
      file = str(path.resolve())  # places are kept, and read from any folder
      for key, members in itertools.groupby(_members(path), key=lambda member: _key(member.name)):
        sample = {}
        for member in members:  # a stream: each is read before the next is asked for
          ending = member.name.rpartition("/")[2].partition(".")[2].lower()
          sample[ending] = (
            Place(file, member.offset, member.size),
            self._said(ending, member),
          )
        where = f"{path}, {key!r}"
        try:
          place = next((sample[x][0] for x in self.image if x in sample), None)
          if place is None:
            endings = ", ".join(sample)
            raise UserError(f"{where}: no picture beside {endings}; name its ending with image=.")
          columns = _columns(where, {ending: said for ending, (_, said) in sample.items()})
          said = captions.of(tables.Row(where, columns))
        except UserError as error:
          bad.leave_out(str(error))
          continue
        yield Picture(where, f"{path.name}/{key}", place, said, columns.get("json", {}))
    captions.check()

  def load(self, place: Place) -> bytes:
    """A member's bytes."""
    return captioned.part_of(place)

  def uncaptioned(self) -> list[str]:
    """None: samples without a caption are bad records."""
    return []

  def _said(self, ending: str, member: tar.Member) -> bytes | None:
    """The contents of what captions are looked for in."""
    wanted = {name.partition("/")[0] for name in caption_columns.needs(self.caption)} | {"json"}
    return member.contents.read(SAID) if ending in wanted and member.size <= SAID else None


def _spread(pattern: str) -> list[str]:
  """The patterns that "{000..127}" stands for."""
  found = RANGE.search(pattern)
  if not found:
    return [pattern]
  first, last = found.groups()
  numbers = range(int(first), int(last) + 1)
  each = (pattern[: found.start()] + f"{i:0{len(first)}}" + pattern[found.end() :] for i in numbers)
  return [path for part in each for path in _spread(part)]


def _key(name: str) -> str:
  """A member's name up to the first dot of its last part."""
  folder, slash, file = name.rpartition("/")
  return folder + slash + file.partition(".")[0]


def _members(path: pathlib.Path) -> Iterator[tar.Member]:
  """The files in a tar, of which none has a name that leads out of it."""
  names, last = member_names.Names(), ""
  with reading.opened(path) as file:
    start = file.read(6)
    file.seek(0)
    if any(start.startswith(sign) for sign in OPENERS):
      raise UserError(
        f"{path} is compressed, so that nothing in it can be read by its place; decompress it."
      )
    try:
      for member in tar.members(file):
        last = member.name
        names.add(member.name, "folder" if member.kind == tar.FOLDER else "file")
        if member.kind == tar.OTHER:
          raise member_names.Refused("is a link, a device or a file with holes")
        if member.kind == tar.FILE:
          yield member
    except member_names.Refused as error:
      raise UserError(f"{path}: {last[:100]!r} {error}.") from None
    except DAMAGED as error:
      raise UserError(
        f"{path} is damaged at or after {last[:100]!r} ({reason(error)}); copy it again."
      ) from None


def _columns(where: str, said: dict[str, bytes | None]) -> dict[str, Any]:
  """What the members of a sample say, by their endings: text, or of .json what is in it."""
  columns: dict[str, Any] = {}
  for ending, data in said.items():
    if data is None:
      continue
    try:
      text = data.decode("utf-8")
      columns[ending] = json.loads(text) if ending == "json" else text
    except (ValueError, RecursionError) as error:
      raise UserError(f"{where}: its .{ending} cannot be read ({reason(error)}).") from None
  return columns
