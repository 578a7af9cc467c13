"""Paths that lead through an archive: "corpus.tar.gz/books/*.txt"."""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
import re

from research.data import archives, cache, progress, reading
from research.errors import UserError

ENDINGS = (".zip", ".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")
FILES = "files"  # in the folder of an archive in the cache


def reach(path: str | os.PathLike[str]) -> pathlib.Path:
  """Where `path` lies, once the archive that it leads through is unpacked; "~" is the home folder.

  What follows the archive's name may be a pattern; the name alone is its outermost folder. It is
  unpacked into the cache, once for the same contents; an archive inside of it is not.

  Raises:
    UserError: it is no path, or the archive is refused (see `archives.unpack`).
  """
  whole = reading.expanded(path)
  archive = next((part for part in (whole, *whole.parents) if os.path.isfile(part)), None)
  if archive is None or (archive == whole and not whole.name.lower().endswith(ENDINGS)):
    return whole
  return _unpacked(archive.resolve()) / whole.relative_to(archive)


def _unpacked(archive: pathlib.Path) -> pathlib.Path:
  def write(folder: pathlib.Path) -> None:
    with progress.line(f"unpacking {archive.name}"):
      archives.unpack(archive, folder / FILES)

  try:
    digest = _digest(archive, archive.stat().st_mtime_ns)
  except OSError as error:
    raise UserError(
      f"cannot read {archive} ({error.strerror}); check the file's permissions"
    ) from error
  # The archive's own name is in it, so that errors about its files tell where they come from.
  name = re.sub(r"[^\w.-]", "_", archive.name)
  return cache.folder("archives", f"{name}-{digest}", write) / FILES


@functools.lru_cache(maxsize=32)
def _digest(archive: pathlib.Path, stamp: int) -> str:
  del stamp  # only there to notice files that have changed
  with archive.open("rb") as file:
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=12)).hexdigest()
