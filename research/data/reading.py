"""Files of text, plain or .gz, in one piece; what is broken about one is told with its line."""

from __future__ import annotations

import gzip
import pathlib
import zlib
from typing import BinaryIO

from research.errors import UserError

PIECE = 1 << 20  # bytes decompressed at once
# Bytes that come out of each compressed one: text has 3 to 20, and what is made to fill a memory
# up to 1,000. Below SMALL they fill none.
RATIO, SMALL = 200, 1 << 24


def expanded(path: str) -> pathlib.Path:
  """A path as it was given, with "~" for the home folder.

  Raises:
    UserError: it is none that a file system could have.
  """
  try:
    found = pathlib.Path(path).expanduser()
    found.exists()
  except (OSError, ValueError, RuntimeError) as error:
    raise UserError(f"{path[:80]!r} cannot be a path ({_said(error)}); check it") from None
  return found


def opened(path: pathlib.Path) -> BinaryIO:
  """A file to read; UserError where it cannot be."""
  try:
    return path.open("rb")
  except OSError as error:
    raise UserError(
      f"cannot read {path} ({_said(error)}); check that it is there, and may be read"
    ) from None


def contents(path: pathlib.Path) -> bytes:
  """All bytes of a file, decompressed where its name ends in .gz.

  Raises:
    UserError: it cannot be read, is not whole, or grows as no text does.
  """
  with opened(path) as file:
    return _decompressed(path, file) if path.suffix.lower() == ".gz" else file.read()


def text(path: pathlib.Path) -> str:
  """A whole file, decompressed and decoded as UTF-8.

  Raises:
    UserError: it is empty or no text; names the line.
  """
  data = contents(path)
  if not data:
    raise UserError(f"{path} is empty; remove it, or leave it out")
  if (place := data.find(b"\0")) >= 0:
    hint = (
      "it may be UTF-16: convert it to UTF-8"
      if data[:2] in (b"\xff\xfe", b"\xfe\xff")
      else "this is no text; remove the NUL bytes or the file"
    )
    raise UserError(f"{path}, line {_line(data, place)}: a NUL byte at byte {place}; {hint}")
  try:
    return data.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    place = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
    raise UserError(
      f"{path}, line {_line(data, place)}: byte {place} is not UTF-8; "
      "convert the file, for example with iconv -t utf-8"
    ) from None


def _decompressed(path: pathlib.Path, file: BinaryIO) -> bytes:
  most = max(SMALL, RATIO * path.stat().st_size)
  data = bytearray()
  try:
    with gzip.open(file) as stream:
      while piece := stream.read(PIECE):
        data += piece
        if len(data) > most:
          raise UserError(
            f"{path} grows to more than {RATIO} times its size, as files made to fill the memory "
            "do; if you trust it, decompress it yourself"
          )
  except (OSError, EOFError, zlib.error) as error:
    raise UserError(f"{path} is not whole gzip data ({error}); copy it again") from None
  return bytes(data)


def _line(data: bytes, place: int) -> int:
  return data.count(b"\n", 0, place) + 1


def _said(error: Exception) -> str:
  return getattr(error, "strerror", None) or str(error)
