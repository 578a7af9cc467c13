"""Where prepared data is kept between runs, and how a folder comes to exist whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator

from research.errors import UserError

CONTENTS = "contents.json"  # in every folder: its files, how large they are, and their digests
BLOCK, BLOCKS = 1 << 20, 64  # bytes; of a file that is larger, so many blocks are looked at
FILES = 1_000  # of a folder with more, so many are looked at; of the others only the sizes


def root() -> pathlib.Path:
  """$RESEARCH_CACHE, else $XDG_CACHE_HOME/research, else ~/.cache/research."""
  if given := os.environ.get("RESEARCH_CACHE"):
    return pathlib.Path(given).expanduser()
  base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  return pathlib.Path(base).expanduser() / "research"


def key(*parts: object) -> str:
  """A name of 24 letters for the contents described by `parts` (by their repr)."""
  return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def folder(kind: str, name: str, write: Callable[[pathlib.Path], None]) -> pathlib.Path:
  """The folder root/kind/name, made by `write(empty folder)` when it is missing or damaged.

  Damage is seen in files up to 64 MiB whatever it is; in larger ones, and in files beyond a
  thousand, where it changes a size or one of the blocks or files that are looked at.

  It appears under its name by one rename, so nobody ever sees half of it. Of the processes of a
  machine that ask at once, one writes and the others wait; of machines that share the cache, each
  may write, and one wins.

  Raises:
    UserError: the cache cannot be written.
  """
  final = root() / kind / name
  if final.is_dir() and _whole(final):
    return final
  with contextlib.ExitStack() as stack:
    try:
      final.parent.mkdir(parents=True, exist_ok=True)
      stack.enter_context(_alone(final.parent / f".{name}.lock"))
      if final.is_dir() and _whole(final):  # another process was faster
        return final
      _sweep(final)
      temporary = _beside(final)
    except OSError as error:
      raise UserError(
        f"cannot write to the cache {final.parent} ({error.strerror}); "
        "set RESEARCH_CACHE to a folder that can be written"
      ) from error
    stack.callback(shutil.rmtree, temporary, ignore_errors=True)
    try:
      write(temporary)
      _seal(temporary)
      temporary.chmod(0o755)
      _publish(temporary, final)
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


def _beside(final: pathlib.Path) -> pathlib.Path:
  """A new folder whose name says which process of which machine made it."""
  owner = f"{socket.gethostname()}.{os.getpid()}"
  return pathlib.Path(tempfile.mkdtemp(prefix=f".{final.name}.{owner}.", dir=final.parent))


def _sweep(final: pathlib.Path) -> None:
  """Removes what processes of this machine left beside a folder when they were killed."""
  ours = re.compile(rf"\.{re.escape(final.name)}\.{re.escape(socket.gethostname())}\.(\d+)\.[^.]+")
  for path in final.parent.iterdir():
    if (found := ours.fullmatch(path.name)) and not _lives(int(found[1])):
      shutil.rmtree(path, ignore_errors=True)


def _lives(process: int) -> bool:
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  except OSError:  # somebody else's
    pass
  return True


def _publish(temporary: pathlib.Path, final: pathlib.Path) -> None:
  try:
    temporary.rename(final)
  except OSError:
    if _whole(final):
      return  # another process was faster
    # Damaged: it is moved out of the way first, for a rename cannot replace a filled folder.
    broken = _beside(final)
    final.rename(broken / "x")
    shutil.rmtree(broken, ignore_errors=True)
    temporary.rename(final)


def _seal(folder: pathlib.Path) -> None:
  files = sorted(path for path in folder.rglob("*") if path.is_file())
  every = 1 + len(files) // FILES
  contents = {
    path.relative_to(folder).as_posix(): [path.stat().st_size, None if i % every else _look(path)]
    for i, path in enumerate(files)
  }
  (folder / CONTENTS).write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")


def _whole(folder: pathlib.Path) -> bool:
  """Whether a folder is what was written: a disk that filled up or lost power may cut files."""
  try:
    contents = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
    return all(
      (folder / name).stat().st_size == size and digest in (None, _look(folder / name))
      for name, (size, digest) in contents.items()
    )
  except (OSError, ValueError, TypeError, AttributeError, RecursionError):
    return False


def _look(path: pathlib.Path) -> str:
  found = path.stat()
  return _digest(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@functools.lru_cache(maxsize=4 * FILES)
def _digest(path: pathlib.Path, size: int, *dates: int) -> str:
  del dates  # only there to notice files that have changed
  total = hashlib.blake2b(digest_size=16)
  with path.open("rb") as file:
    for i in range(BLOCKS):
      if size > BLOCK * BLOCKS:
        file.seek(i * (size - BLOCK) // (BLOCKS - 1))
      total.update(file.read(BLOCK))
  return total.hexdigest()
