"""A process that makes no progress ends and says where it stood, for its peers wait for it."""

from __future__ import annotations

import contextlib
import contextvars
import faulthandler
import sys
import time
from collections.abc import Iterator
from typing import TextIO

RENEWALS = 50  # in the time that silence may last: each starts a thread


class _Watch:
  def __init__(self, patience: float):
    self.patience, self.due = patience, 0.0
    # Where standard error is no file of the system's, as in a notebook, the real one is taken.
    self.stream: TextIO = sys.stderr if _has_descriptor(sys.stderr) else sys.__stderr__


_watch: contextvars.ContextVar[_Watch | None] = contextvars.ContextVar("watch", default=None)


@contextlib.contextmanager
def watched(patience: float | None) -> Iterator[None]:
  """Inside the block, silence ends the process.

  After `patience` seconds without a call of `alive` the stacks of all threads are printed and the
  process ends with exit code 1, at once: even where it sleeps in a call of C, or holds the
  interpreter's lock.

  Args:
    patience: in seconds; None waits for ever.
  """
  token = _watch.set(None if patience is None else _Watch(patience))
  alive()
  try:
    yield
  finally:
    faulthandler.cancel_dump_traceback_later()
    _watch.reset(token)


def alive() -> None:
  """A sign of progress: to be called after each step, batch, or piece of what takes long."""
  watch, now = _watch.get(), time.monotonic()
  if watch is not None and now >= watch.due:
    faulthandler.dump_traceback_later(watch.patience, exit=True, file=watch.stream)
    watch.due = now + watch.patience / RENEWALS


def _has_descriptor(stream) -> bool:
  try:
    return stream.fileno() >= 0
  except (AttributeError, OSError):
    return False
