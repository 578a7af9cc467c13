"""Files that are the old ones or the new ones, whatever happens, also to the power."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path


def sync(path: Path) -> None:
  """Waits until a file's content, or a folder's list of names, has reached the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def replace(path: Path, contents: str | bytes) -> None:
  """Writes a file, all of it or nothing; text in UTF-8, a lone surrogate as JSON writes it.

  Of several processes that write it at once, each does so in its turn.

  Raises:
    OSError: what the disk refused; nothing has changed then.
  """
  temporary = path.with_name(f".{path.name}.new")
  if isinstance(contents, str):
    contents = contents.encode("utf-8", "backslashreplace")
  with _ours(temporary) as file:
    try:
      _write(file, contents)
      sync(temporary)
      temporary.replace(path)
    except BaseException:
      temporary.unlink(missing_ok=True)
      raise
  sync(path.parent)


@contextlib.contextmanager
def _ours(path: Path) -> Iterator[FileIO]:
  """An empty file that nobody else writes meanwhile; who was killed has left it to the next."""
  while True:
    with FileIO(os.open(path, os.O_CREAT | os.O_RDWR, 0o666), "r+") as file:
      with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_EX)
      if _at(path, file):
        file.truncate(0)
        yield file
        return


def _at(path: Path, file: FileIO) -> bool:
  """Whether the file still has this name: who had it before us has given it another."""
  try:
    return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
  except FileNotFoundError:
    return False


def _write(file: FileIO, contents: bytes) -> None:
  left = memoryview(contents)
  while left:
    left = left[file.write(left) :]
