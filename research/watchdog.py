"""A process that makes no progress ends and says where it stood, for its peers wait for it."""

from __future__ import annotations

import contextlib
import faulthandler
import sys
import time
from collections.abc import Callable, Iterator

RENEWALS = 50  # in the time that silence may last: each starts a thread


@contextlib.contextmanager
def watched(patience: float | None) -> Iterator[Callable[[], None]]:
  """Yields what is to be called at every sign of progress.

  After `patience` seconds without one the stacks of all threads are printed and the process ends
  with exit code 1, at once: even where it sleeps in a call of C, or holds the interpreter's lock.

  Args:
    patience: in seconds; None waits for ever.
  """
  if patience is None:
    yield lambda: None
    return
  due = 0.0

  def alive() -> None:
    nonlocal due
    now = time.monotonic()
    if now >= due:
      faulthandler.dump_traceback_later(patience, exit=True, file=stream)
      due = now + patience / RENEWALS

  # Where the standard error is no file of the system's, as in a notebook, the real one is taken.
  stream = sys.stderr if _has_descriptor(sys.stderr) else sys.__stderr__
  alive()
  try:
    yield alive
  finally:
    faulthandler.cancel_dump_traceback_later()


def _has_descriptor(stream) -> bool:
  try:
    return stream.fileno() >= 0
  except (AttributeError, OSError):
    return False
