"""Runs of a tiny GPT and a tiny CLIP, killed (-9) at random times and started again until done.

Held is: nothing that was saved is lost, every step takes the batch that it takes in an unbroken
run, and the final arrays are those of an unbroken run, bit for bit.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from . import killing
from .commands import Command
from .outcome import Outcome, Say

KILLS = 100  # of each model
SPAN = 2.5  # seconds after the loop has begun; compiling is among them


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """Kills each of the two `n` times (100 by default), at times that `seed` chooses."""
  return killing.outcome(KILLS if n is None else n, seed, say, any_time)


def any_time(command: Command, workdir: Path, draw: random.Random) -> bool:
  """Until a random time after training has begun."""
  if not command.says(killing.BEGUN):
    return False
  end = time.monotonic() + draw.uniform(0, SPAN)
  command.until(lambda: time.monotonic() >= end)
  return not command.over
