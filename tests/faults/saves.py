"""The same as kills, but killed while a checkpoint is being written.

A kill comes a random time of at most 150 ms after Orbax's temporary folder has appeared.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from . import killing, runs
from .commands import Command
from .outcome import Outcome, Say

KILLS = 100  # of each model
DELAY = 0.15  # seconds, at most
UP_TO = 3  # which save after the start is hit, at most


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """Kills each of the two `n` times (100 by default), at times that `seed` chooses."""
  return killing.outcome(KILLS if n is None else n, seed, say, in_a_save)


def in_a_save(command: Command, workdir: Path, draw: random.Random) -> bool:
  """Until a save has begun, and a little later."""
  delay, which = draw.uniform(0, DELAY), draw.randint(1, UP_TO)
  if not command.says(killing.BEGUN):  # what an earlier start left has been cleaned up by then
    return False
  for i in range(which):
    if i and not command.until(lambda: not runs.unfinished(workdir)):
      return False
    if not command.until(lambda: runs.unfinished(workdir)):
      return False
  time.sleep(delay)
  return not command.over
