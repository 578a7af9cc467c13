"""The processes of a sweep: how they are started as forks, stopped and cleared away.

Each is a process of its own, that can be killed, run out of memory or crash by itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

from research import forks
from research.errors import UserError
from research.sweep import worker
from research.sweep.shares import Share
from research.sweep.worker import Task

TURN = 0.5  # seconds between two looks at what runs
UNKNOWN = 255  # the exit code where the server was killed, whose forks go on


@dataclasses.dataclass(eq=False)
class Process:
  """A process at work on a run; `of` is what its runner keeps of that.

  Its exit code is None while it runs, and negative where a signal ended it.
  """

  of: Any
  share: Share
  _process: multiprocessing.Process
  code: int | None = None
  _asked: int = 0

  def stop(self, times: int = 1) -> None:
    """Asks it to save and stop, unless it was asked so often; the second time ends it at once."""
    if self._asked < times:
      self._asked = times
      with contextlib.suppress(ProcessLookupError):
        os.kill(self._process.pid, signal.SIGTERM)


class Processes:
  """As many processes at once as there are shares of the machine; a context.

  Each process gets a SIGTERM for each SIGTERM or SIGINT that comes here; and one in the end, so
  that a mistake of ours leaves no run behind that nobody looks after.
  """

  def __init__(self, parts: Sequence[Share]):
    self.free, self.running = list(parts), []
    self._context = forks.context()
    self._signals, self._before = [], {}

  def __enter__(self) -> Processes:
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
      for number in (signal.SIGTERM, signal.SIGINT):
        self._before[number] = signal.signal(number, lambda number, _: self._signals.append(number))
    return self

  def __exit__(self, *_) -> None:
    for each in self.running:
      each.stop(self.stopping + 1)
    for number, handler in self._before.items():
      signal.signal(number, handler)

  @property
  def stopping(self) -> int:
    """How many signals came; after the first nothing is to be started."""
    return len(self._signals)

  def start(self, task: Task, of: Any) -> bool:
    """Starts a task in a free share; False where it must be tried again.

    Raises:
      UserError: its folder cannot be made.
    """
    try:
      task.workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise UserError(
        f"{task.workdir} cannot be made: {error.strerror}; give another --workdir."
      ) from error
    process = self._context.Process(target=worker.work, args=(task, self.free[0]))
    try:
      process.start()
    except (OSError, EOFError):  # the server was killed; the next start starts another one
      time.sleep(TURN)
      return False
    self.running.append(Process(of, self.free.pop(0), process))
    return True

  def ended(self) -> list[Process]:
    """Those that have ended, within a `TURN`; their shares are free, and what they left is gone."""
    multiprocessing.connection.wait([each._process.sentinel for each in self.running], TURN)
    found = [each for each in self.running if each._process.exitcode is not None]
    for each in found:
      self.running.remove(each)
      self.free.append(each.share)
      each.code, process = each._process.exitcode, each._process.pid
      each._process.close()
      if each.code != UNKNOWN:
        with contextlib.suppress(ProcessLookupError, PermissionError):
          os.killpg(process, signal.SIGKILL)
    for each in self.running:
      each.stop(self.stopping)
    return found
