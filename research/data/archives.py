"""Archives unpacked without trusting them: zip, and tar, plain or compressed by gzip, bzip2 or xz.

An archive is somebody else's word on where files go and how large they are. Out of it come files
and folders only, under names that mean the same on every system, and no more bytes than was
allowed; an archive inside of it stays a file.
"""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import lzma
import os
import pathlib
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from typing import IO

from research.data import member_names, tar
from research.errors import UserError

PIECE = 1 << 16  # bytes written at once
SMALL = 1 << 20  # bytes that fill no disk, however well they were compressed
OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# What readers raise where an archive is not what it should be.
DAMAGED = (
  *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
  *(EOFError, ValueError, LookupError, ArithmeticError, RuntimeError, MemoryError),
)


@dataclasses.dataclass(frozen=True)
class Limits:
  """What may come out of an archive.

  Attributes:
    total: bytes in all.
    ratio: bytes for each of its own; of text, xz makes one of 5 to 20.
    members: files and folders.
    depth: parts of a name.
    name: bytes of a name.
  """

  total: int = 1 << 40
  ratio: float = 200.0
  members: int = 2_000_000
  depth: int = 32
  name: int = 1024


USUAL = Limits()


def unpack(
  path: str | os.PathLike[str], folder: str | os.PathLike[str], limits: Limits = USUAL
) -> dict[str, int]:
  """Makes `folder` of the archive at `path`, by one rename when all of it is there.

  Returns:
    Bytes of every file by its name, which is relative and has "/" between its parts.

  Raises:
    UserError: the archive is damaged, of another kind, or goes beyond a limit; cannot be read or
      written; or has a member that is refused: with an absolute or climbing ("..") name, one of
      Windows' own, or one that is there twice or differs only in case; a link, a device, a file
      with holes. It names the member, and nothing stays behind.
  """
  path, folder = pathlib.Path(path), pathlib.Path(folder)
  if not path.is_file():
    raise UserError(f"there is no archive {path}; check the path.")
  if os.path.lexists(folder):
    raise UserError(f"{folder} is there already; give a folder that is not.")
  try:
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
      with path.open("rb") as file:
        unpacking = _Unpacking(path, temporary, os.fstat(file.fileno()).st_size, limits)
        _read(file, unpacking)
      temporary.chmod(0o755)
      temporary.rename(folder)
    finally:
      shutil.rmtree(temporary, ignore_errors=True)
  except OSError as error:
    raise UserError(f"{path} cannot be unpacked to {folder} ({error.strerror}).") from error
  return unpacking.sizes


class _Unpacking:
  """A folder while it is filled, and what may still go into it."""

  def __init__(self, archive: pathlib.Path, folder: pathlib.Path, size: int, limits: Limits):
    self.archive, self.folder, self.size, self.limits = archive, folder, size, limits
    self.sizes: dict[str, int] = {}
    self._name = ""  # of the member at hand
    self._names = member_names.Names()
    self._members = self._out = 0

  def refuse(self, reason: str) -> UserError:
    return UserError(f"{self.archive}: {_short(self._name)!r} {reason}.")

  def damaged(self, error: BaseException) -> UserError:
    reason = _short((str(error) or type(error).__name__).splitlines()[0])
    if not self._members:
      return UserError(f"{self.archive} is no zip or tar, or is damaged ({reason}); copy it again.")
    return UserError(
      f"{self.archive} is damaged at or after {_short(self._name)!r} ({reason}); copy it again."
    )

  def begin(self, name: str, size: int) -> None:
    """Goes on to a member that says that it is so large."""
    self._name = name
    self._members += 1
    if self._members > self.limits.members:
      raise self.refuse(f"is one more than the {self.limits.members:,} members that are taken")
    if len(name.encode("utf-8", "surrogatepass")) > self.limits.name:
      raise self.refuse(f"has a name of more than {self.limits.name} bytes; shorten it")
    self._check(self._out + size)

  def count(self, size: int) -> None:
    """Takes note of bytes that came out of the archive, whatever it said."""
    self._out += size
    self._check(self._out)

  def add_folder(self) -> None:
    self._place("folder").mkdir(parents=True, exist_ok=True)

  def add_file(self, contents: tar.Stream, size: int) -> None:
    place = self._place("file")
    place.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with place.open("xb") as file:
      while piece := contents.read(PIECE):
        written += file.write(piece)
    if written != size:
      raise self.refuse(
        f"has {written:,} of its {size:,} bytes; the archive is damaged, copy it again"
      )
    self.sizes[place.relative_to(self.folder).as_posix()] = size

  def _place(self, kind: str) -> pathlib.Path:
    try:
      parts = self._names.add(self._name, kind)
    except member_names.Refused as error:
      raise self.refuse(str(error)) from None
    if kind == "file" and not parts:
      raise self.refuse("is a file without a name")
    if len(parts) > self.limits.depth:
      raise self.refuse(f"lies {len(parts)} folders deep; {self.limits.depth} are taken")
    return self.folder.joinpath(*parts)

  def _check(self, out: int) -> None:
    if out > self.limits.total:
      raise self.refuse(
        f"makes it more than the {self.limits.total:,} bytes that are taken; if you trust it, "
        "unpack it yourself"
      )
    if out > max(SMALL, self.limits.ratio * self.size):
      raise self.refuse(
        f"makes it more than {self.limits.ratio:g} times as large as the archive, as a bomb would; "
        "if you trust it, unpack it yourself"
      )


class _Counted:
  """What is read, counted before it is used."""

  def __init__(self, stream: tar.Stream, unpacking: _Unpacking):
    self._stream, self._unpacking = stream, unpacking

  def read(self, size: int) -> bytes:
    data = self._stream.read(size)
    self._unpacking.count(len(data))
    return data


def _read(file: IO[bytes], unpacking: _Unpacking) -> None:
  start = file.read(6)
  file.seek(0)
  try:
    if start.startswith(ZIP):
      _read_zip(file, unpacking)
    else:
      opener = next((OPENERS[sign] for sign in OPENERS if start.startswith(sign)), None)
      with opener(file) if opener else file as stream:
        _read_tar(_Counted(stream, unpacking), unpacking)
  except DAMAGED as error:
    raise unpacking.damaged(error) from error
  except OSError as error:
    if error.errno is not None:
      raise
    raise unpacking.damaged(error) from error  # a decompressor's word, not the disk's


def _read_zip(file: IO[bytes], unpacking: _Unpacking) -> None:
  with zipfile.ZipFile(file) as archive:
    for member in archive.infolist():
      # `filename` ends before a NUL; `orig_filename` is what stands there.
      name = member.orig_filename
      unpacking.begin(name, member.file_size)
      if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise unpacking.refuse("is a link or a device; pack the files themselves")
      if member.flag_bits & 1:
        raise unpacking.refuse("is encrypted; pack the archive again without a password")
      if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise unpacking.refuse(
          f"is compressed by method {member.compress_type}; pack the archive again with 'deflate'"
        )
      if name.endswith("/"):
        unpacking.add_folder()
      else:
        with archive.open(member) as contents:
          unpacking.add_file(_Counted(contents, unpacking), member.file_size)


def _read_tar(stream: _Counted, unpacking: _Unpacking) -> None:
  for member in tar.members(stream):
    unpacking.begin(member.name, member.size)
    if member.kind == tar.FOLDER:
      unpacking.add_folder()
    elif member.kind == tar.FILE:
      unpacking.add_file(member.contents, member.size)
    else:
      raise unpacking.refuse("is a link, a device or a file with holes; pack the files themselves")


def _short(text: str) -> str:
  return text if len(text) <= 100 else text[:100] + "..."
