"""Where prepared data is kept between runs, and how a folder comes to exist whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator

from research.errors import UserError


def root() -> pathlib.Path:
  """$RESEARCH_CACHE, else $XDG_CACHE_HOME/research, else ~/.cache/research."""
  if given := os.environ.get("RESEARCH_CACHE"):
    return pathlib.Path(given).expanduser()
  base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  return pathlib.Path(base).expanduser() / "research"


def key(*parts: object) -> str:
  """A name of 24 letters for the contents described by `parts` (by their repr)."""
  return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def folder(
  kind: str,
  name: str,
  write: Callable[[pathlib.Path], None],
  whole: Callable[[pathlib.Path], bool],
) -> pathlib.Path:
  """The folder root/kind/name, made by `write(empty folder)` when it is missing or not `whole`.

  It appears under its name by one rename, so nobody ever sees half of it. Of the processes of a
  machine that ask at once, one writes and the others wait; of machines that share the cache, each
  may write, and one wins.

  Raises:
    UserError: the cache cannot be written.
  """
  final = root() / kind / name
  if final.is_dir() and whole(final):
    return final
  with contextlib.ExitStack() as stack:
    try:
      final.parent.mkdir(parents=True, exist_ok=True)
      stack.enter_context(_alone(final.parent / f".{name}.lock"))
      if final.is_dir() and whole(final):  # another process was faster
        return final
      temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{name}.", dir=final.parent))
    except OSError as error:
      raise UserError(
        f"cannot write to the cache {final.parent} ({error.strerror}); "
        "set RESEARCH_CACHE to a folder that can be written"
      ) from error
    stack.callback(shutil.rmtree, temporary, ignore_errors=True)
    try:
      write(temporary)
      temporary.chmod(0o755)
      _publish(temporary, final, whole)
    except OSError as error:
      raise UserError(f"cannot write to the cache {final} ({error.strerror or error})") from error
  return final


@contextlib.contextmanager
def _alone(path: pathlib.Path) -> Iterator[None]:
  """One process of this machine at a time; the lock of one that was killed is free again."""
  while True:
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    with contextlib.suppress(OSError):  # a file system without locks: as if alone
      fcntl.flock(lock, fcntl.LOCK_EX)
    # Who held it before has deleted it; only the file that has the name still is the lock.
    with contextlib.suppress(FileNotFoundError):
      if os.path.samestat(os.fstat(lock), path.stat()):
        break
    os.close(lock)
  try:
    yield
  finally:
    path.unlink(missing_ok=True)
    os.close(lock)


def _publish(temporary: pathlib.Path, final: pathlib.Path, whole) -> None:
  try:
    temporary.rename(final)
  except OSError:
    if whole(final):
      return  # another process was faster
    # Damaged: it is moved out of the way first, for a rename cannot replace a filled folder.
    broken = pathlib.Path(tempfile.mkdtemp(prefix=f".{final.name}.broken.", dir=final.parent))
    final.rename(broken / "x")
    shutil.rmtree(broken, ignore_errors=True)
    temporary.rename(final)
