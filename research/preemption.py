"""Stopping early: a signal to any process of a job stops all of them, at the same step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from research import distributed


@contextlib.contextmanager
def interruptions() -> Iterator[Callable[[int], bool]]:
  """Yields the question whether to stop, to be asked after every step, with its number.

  SIGTERM and SIGINT are waited for. In a job of several processes JAX's preemption service hears
  SIGTERM, tells all of them, and has them stop at a step that none of them has passed; it takes a
  second or two. SIGINT is handed on to it. A second SIGINT, and for a process on its own a second
  SIGTERM, acts as it would have without us.
  """
  several = distributed.several()
  asked = threading.Event()
  before = {}

  def restore() -> None:
    for number, old in before.items():
      signal.signal(number, old)

  def handler(number, frame) -> None:
    asked.set()
    restore()
    if several:
      signal.raise_signal(signal.SIGTERM)

  def alone(step: int) -> bool:
    return asked.is_set()

  if threading.current_thread() is threading.main_thread():  # no other may set handlers
    for number in (signal.SIGINT,) if several else (signal.SIGTERM, signal.SIGINT):
      before[number] = signal.signal(number, handler)
  try:
    if several:
      from jax.experimental import multihost_utils

      yield multihost_utils.reached_preemption_sync_point
    else:
      yield alone
  finally:
    restore()
