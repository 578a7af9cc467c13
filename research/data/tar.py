"""The members of a tar, read forward by `tarfile`, which here takes only the end for the end.

By itself it ends in silence at a header that it does not understand, and reads headers of any
length; of an archive that nobody vouches for, all has to be understood.
"""

from __future__ import annotations

import dataclasses
import tarfile
from collections.abc import Callable, Iterator
from typing import Protocol

LONGEST = (
  1 << 13
)  # bytes of an extended header: before 3.11.10 and 3.12.6 time goes with the square
EXTENDED = (
  *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
  *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
FILE, FOLDER, OTHER = "file", "folder", "other"


class Broken(tarfile.ReadError):
  """What stands there is no tar, and why."""


class Stream(Protocol):
  """What bytes come from."""

  def read(self, size: int) -> bytes:
    """At most `size` bytes; none at the end."""


@dataclasses.dataclass
class Member:
  """A file, a folder, or something else that a tar may hold.

  `contents` are a file's bytes, which lie from `offset` on in a tar that is not compressed.
  """

  name: str
  size: int
  kind: str
  contents: Stream | None
  offset: int = 0


def members(stream: Stream) -> Iterator[Member]:
  """The members in their order, each to be read before the next is asked for.

  A name that is no UTF-8 has surrogates for the bytes that are none.

  Raises:
    tarfile.TarError: it is no tar, is damaged, or ends early; also as a member is read.
  """
  with tarfile.open(
    fileobj=stream, mode="r|", tarinfo=_Header, encoding="utf-8", errors="surrogateescape"
  ) as archive:
    while member := archive.next():
      yield _member(archive, member)
      archive.members = []  # it would remember all of them
    # What follows is read too, so that a compressed file comes to its check sum.
    while data := archive.fileobj.read(tarfile.RECORDSIZE):
      if any(data):
        raise Broken("something after its end")


class _Header(tarfile.TarInfo):
  @classmethod
  def frombuf(cls, buf, encoding, errors):
    """The member that a block describes; called by `tarfile` for each header."""
    return _understood(lambda: tarfile.TarInfo.frombuf.__func__(cls, buf, encoding, errors))

  @classmethod
  def _frombuf(cls, buf, encoding, errors, **how):
    """As `frombuf`, in whose place a `tarfile` that has it calls it (CPython's gh-141707)."""
    parent = tarfile.TarInfo._frombuf.__func__
    return _understood(lambda: parent(cls, buf, encoding, errors, **how))


def _understood(header: Callable[[], tarfile.TarInfo]) -> tarfile.TarInfo:
  try:
    found = header()
  except tarfile.EOFHeaderError:
    raise
  except tarfile.HeaderError as error:
    raise Broken(str(error) or "it ends early") from error
  if found.type in EXTENDED and found.size > LONGEST:
    raise Broken(f"an extended header of {found.size:,} bytes")
  return found


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Member:
  if member.isdir():
    return Member(member.name, 0, FOLDER, None)
  if not member.isreg() or member.issparse():
    return Member(member.name, 0, OTHER, None)
  contents = archive.extractfile(member)
  return Member(member.name, member.size, FILE, contents, member.offset_data)
