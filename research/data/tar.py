"""The members of a tar, read forward, in the forms of POSIX (ustar, pax) and of GNU.

Python's `tarfile` reads headers of any length into memory, takes what it does not understand for
the end, and does so differently from release to release; of an archive that nobody vouches for all
of it has to be understood.

Source: POSIX.1-2024, pax, "ustar Interchange Format" and "pax Interchange Format".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Protocol

BLOCK = 512
LONGEST = 1 << 16  # bytes of an extended header
MOST = 16  # extended headers before a member; three are usual
FILE, FOLDER, OTHER = "file", "folder", "other"
KINDS = {b"0": FILE, b"\0": FILE, b"7": FILE, b"5": FOLDER}
GNU_NAME, GNU_LINK, PAX, PAX_GLOBAL = b"L", b"K", b"x", b"g"


class Broken(Exception):
  """What stands there is no tar, and why."""


class Stream(Protocol):
  """What bytes come from."""

  def read(self, size: int) -> bytes:
    """At most `size` bytes; none at the end."""


@dataclasses.dataclass
class Member:
  """A file, a folder, or something else that a tar may hold; `read` gives a file's bytes."""

  name: str
  size: int
  kind: str
  stream: Stream
  left: int = 0

  def read(self, size: int) -> bytes:
    data = self.stream.read(min(size, self.left))
    self.left -= len(data)
    return data


def members(stream: Stream) -> Iterator[Member]:
  """The members in their order, each to be read before the next is asked for.

  A name that is no UTF-8 has surrogates for the bytes that are none.

  Raises:
    Broken: it is no tar, is damaged, or ends early.
  """
  everywhere: dict[str, bytes] = {}
  here: dict[str, bytes] = {}
  headers = 0
  while any(header := _exactly(stream, BLOCK)):
    size, kind = _checked(header), header[156:157]
    if kind in (GNU_NAME, GNU_LINK, PAX, PAX_GLOBAL):
      headers += 1
      if size > LONGEST or headers > MOST:
        raise Broken(f"{headers} headers for one member, the last of {size:,} bytes")
      data = _exactly(stream, size)
      _exactly(stream, -size % BLOCK)
      if kind == GNU_NAME:
        here["path"] = data.rstrip(b"\0")
      elif kind != GNU_LINK:
        (here if kind == PAX else everywhere).update(_records(data))
      continue
    yield from _member(stream, header, size, everywhere | here)
    here, headers = {}, 0
  while data := stream.read(LONGEST):  # also so that a compressed file comes to its check sum
    if any(data):
      raise Broken("something after its end")


def _member(stream: Stream, header: bytes, size: int, said: dict[str, bytes]) -> Iterator[Member]:
  path, kind = said.get("path", _name(header)), KINDS.get(header[156:157], OTHER)
  size = _decimal(said["size"]) if "size" in said else size
  if kind == FILE and path.endswith(b"/"):  # from before there were kinds
    kind = FOLDER
  if any(key.startswith("GNU.sparse.") for key in said):
    kind = OTHER
  size = size if kind == FILE else 0
  member = Member(path.decode("utf-8", "surrogateescape"), size, kind, stream, left=size)
  yield member
  _exactly(stream, member.left + -size % BLOCK)


def _exactly(stream: Stream, size: int) -> bytes:
  data = b""
  while len(data) < size:
    piece = stream.read(size - len(data))
    if not piece:
      raise Broken("it ends early")
    data += piece
  return data


def _checked(header: bytes) -> int:
  """The size that a header gives; Broken where its check sum is not that of its bytes."""
  if _octal(header[148:156]) != sum(header[:148]) + 8 * ord(" ") + sum(header[156:]):
    raise Broken("a header whose check sum is wrong")
  field = header[124:136]
  if field[0] < 0x80:
    return _octal(field)
  return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:])  # GNU's, for 8 GiB and more


def _name(header: bytes) -> bytes:
  name = header[:100].split(b"\0")[0]
  prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
  return prefix + b"/" + name if prefix else name


def _octal(field: bytes) -> int:
  text = field.strip(b" \0")
  if text and not all(letter in b"01234567" for letter in text):
    raise Broken("a header whose numbers are none")
  return int(text or b"0", 8)


def _decimal(text: bytes) -> int:
  if not (text.isdigit() and len(text) <= 20):
    raise Broken("a header whose numbers are none")
  return int(text)


def _records(data: bytes) -> dict[str, bytes]:
  """The keywords of a pax header: "LENGTH KEYWORD=VALUE\\n", the length counting all of it."""
  found, start = {}, 0
  while start < len(data):
    space = data.find(b" ", start, start + 20)
    end = start + _decimal(data[start : max(space, start)])
    keyword, equals, value = data[space + 1 : end - 1].partition(b"=")
    if not equals or data[end - 1 : end] != b"\n":
      raise Broken("an extended header that is none")
    found[keyword.decode("utf-8", "replace")] = value
    start = end
  return found
