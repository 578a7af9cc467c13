"""Files that are the old ones or the new ones, whatever happens, also to the power."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
  """Waits until a file's content, or a folder's list of names, has reached the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def replace(path: Path, text: str) -> None:
  """Writes `text` (UTF-8; a lone surrogate as JSON writes it) under a name, all of it or nothing.

  Raises:
    OSError: what the disk refused; nothing has changed then.
  """
  temporary = path.with_name(f".{path.name}.new")
  try:
    temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    sync(temporary)
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)
  sync(path.parent)
