"""One run in a folder at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from research import distributed
from research.errors import UserError

FILE = "run.lock"


@contextlib.contextmanager
def alone_in(workdir: Path) -> Iterator[None]:
  """Makes `workdir` and keeps other runs out of it; the first process of a job holds the lock.

  The system holds it, not the file: a process that was killed leaves no lock behind.

  Raises:
    UserError: somebody else is at work there, or it cannot be written.
  """
  with contextlib.ExitStack() as stack:
    with distributed.together("locking the run folder"):
      if distributed.first():
        stack.enter_context(_locked(workdir / FILE))
    yield


def holder(workdir: Path) -> str | None:
  """Who is at work in a run folder, in words, or None.

  It asks whoever keeps the locks, and not the file: of a process that was killed nothing is left.
  On a file system without locks nobody is known.
  """
  try:
    lock = os.open(Path(workdir) / FILE, os.O_RDONLY)
  except OSError:
    return None
  try:
    return None if _taken(lock, fcntl.LOCK_SH) else _named(lock)
  finally:
    os.close(lock)


def _taken(lock: int, kind: int = fcntl.LOCK_EX, after: float = 0.0) -> bool:
  """Whether the lock is ours now; True where there are none. Tried after so many seconds."""
  time.sleep(after)
  try:
    fcntl.flock(lock, kind | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  except OSError:  # a file system without locks
    pass
  return True


def _named(lock: int) -> str:
  return os.pread(lock, 200, 0).decode("utf-8", "replace") or "another process"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
  except OSError as error:
    raise UserError(
      f"{path.parent} cannot be written: {error.strerror}; give another --workdir."
    ) from error
  try:
    if not (_taken(lock) or _taken(lock, after=0.1)):  # who only asks (`holder`) has it a moment
      raise UserError(
        f"{path.parent} is in use by {_named(lock)}; wait for it, end it, or give another "
        "--workdir."
      )
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    yield
  finally:
    os.close(lock)
