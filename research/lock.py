"""One run in a folder at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
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
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      who = os.read(lock, 200).decode("utf-8", "replace") or "another process"
      raise UserError(
        f"{path.parent} is in use by {who}; wait for it, end it, or give another --workdir."
      ) from error
    except OSError:  # a file system without locks
      pass
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    yield
  finally:
    os.close(lock)
