"""One run in a folder at a time, and whatever else takes turns.

The system holds a lock, not its file: a process that was killed leaves none behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from research import distributed
from research.errors import RunError, UserError

FILE = "run.lock"
NOW = fcntl.LOCK_EX | fcntl.LOCK_NB


@contextlib.contextmanager
def alone_in(workdir: Path) -> Iterator[None]:
  """Makes `workdir` and keeps other runs out of it; the first process of a job holds the lock.

  Raises:
    RunError: somebody else is at work there, who may be done the next time.
    UserError: it cannot be written.
  """
  with contextlib.ExitStack() as stack:
    with distributed.together("locking the run folder"):
      if distributed.first():
        lock = stack.enter_context(_of(workdir))
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
    yield


def holder(workdir: Path) -> str | None:
  """Who is at work in a run folder, in words, or None.

  It asks whoever keeps the locks, and not the file. On a file system without locks nobody is known.
  """
  try:
    lock = FileIO(Path(workdir) / FILE)
  except OSError:
    return None
  with lock:
    if _taken(lock, fcntl.LOCK_SH | fcntl.LOCK_NB):
      return None
    return lock.read(200).decode("utf-8", "replace") or "another process"


def take(path: Path, kind: int = fcntl.LOCK_EX) -> FileIO | None:
  """A lock: an open file, which gives it back when closed. With `NOW` None, where it is taken."""
  lock = FileIO(os.open(path, os.O_CREAT | os.O_RDWR, 0o644), "r+")
  if _taken(lock, kind):
    return lock
  lock.close()
  return None


def _of(workdir: Path) -> FileIO:
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    lock = take(workdir / FILE, NOW)
    if lock is None:
      time.sleep(0.1)  # who only asks (`holder`) has it a moment
      lock = take(workdir / FILE, NOW)
  except OSError as error:
    raise UserError(
      f"{workdir} cannot be written: {error.strerror}; give another --workdir."
    ) from error
  if lock is None:
    who = holder(workdir) or "another process"
    raise RunError(f"{workdir} is in use by {who}; wait for it, end it, or give another --workdir.")
  return lock


def _taken(lock: FileIO, kind: int) -> bool:
  try:
    fcntl.flock(lock, kind)
  except BlockingIOError:
    return False
  except OSError:  # a file system without locks
    pass
  return True
