"""Files that are the old ones or the new ones, whatever happens, also to the power."""

from __future__ import annotations

import os
import socket
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

  Raises:
    OSError: what the disk refused; nothing has changed then.
  """
  # Others on a shared disk may be writing the same file.
  temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.new")
  if isinstance(contents, str):
    contents = contents.encode("utf-8", "backslashreplace")
  try:
    temporary.write_bytes(contents)
    sync(temporary)
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)
  sync(path.parent)
