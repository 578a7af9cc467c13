"""Stopping early: a signal to any process of a job stops all of them, at the same moment."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterator

from research import distributed


@contextlib.contextmanager
def interruptions() -> Iterator[Callable[[], bool]]:
  """Yields the question whether to stop; the answer stays the same once it is yes.

  It is to be asked wherever a run can end: after each step, each batch of an evaluation, each
  piece of a sample. The processes of a job must all ask equally often.

  SIGTERM and SIGINT are waited for. In a job of several processes JAX's preemption service hears
  SIGTERM, tells all of them, and has them stop at a question that none of them has passed; it takes
  a second or two. SIGINT is handed on to it. A second SIGINT, and for a process on its own a second
  SIGTERM, acts as it would have without us.
  """
  several = distributed.several()
  asked = threading.Event()
  before = {}

  def restore() -> None:
    for number, old in before.items():
      signal.signal(number, old)

  def handler(number, frame) -> None:
    restore()
    if several:
      signal.raise_signal(signal.SIGTERM)
    else:
      asked.set()

  if threading.current_thread() is threading.main_thread():  # no other may set handlers
    for number in (signal.SIGINT,) if several else (signal.SIGTERM, signal.SIGINT):
      before[number] = signal.signal(number, handler)
  try:
    yield _agreed(asked) if several else asked.is_set
  finally:
    restore()


def _agreed(asked: threading.Event) -> Callable[[], bool]:
  from jax.experimental import multihost_utils

  questions = itertools.count()

  def stopping() -> bool:
    if not asked.is_set() and multihost_utils.reached_preemption_sync_point(next(questions)):
      asked.set()
    return asked.is_set()

  return stopping
