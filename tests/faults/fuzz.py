"""Random texts, values and bytes (hypothesis, mutation) for everything that reads a file or a word.

Held is: what is read, or a UserError (of checkpoints an IntegrityError); no crash, no hang of more
than five seconds, no more than two GiB of memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import targets
from .forks import Forks, forks
from .outcome import Outcome, Say

N = 20_000
BATCH = 50  # inputs that a child gets


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """Tries `n` inputs (20,000 by default), evenly over the targets."""
  total = N if n is None else n
  failures: list[str] = []
  read = tried = 0
  figures = {}
  with tempfile.TemporaryDirectory() as name, forks() as children:
    home = Path(name)
    made = children.run(f"{targets.__name__}:make", folder=home)
    if made.code:
      raise RuntimeError(f"whole files cannot be made:\n{made.said}")
    chosen = made.answer
    for i, target in enumerate(chosen):
      share = total // len(chosen) + (i < total % len(chosen))
      for first, count in _batches(share):
        good, failed = _batch(children, home, target, seed, first, count)
        read += good
        failures += failed
        tried += count
        say(tried, total)
      figures[target] = share
  held = tried - len(failures)
  return Outcome(
    tried, held, failures, {"targets": len(chosen), "read": read, "refused": held - read}
  )


def _batches(count: int) -> Iterator[tuple[int, int]]:
  for first in range(0, count, BATCH):
    yield first, min(BATCH, count - first)


def _batch(
  children: Forks, home: Path, target: str, seed: int, first: int, count: int
) -> tuple[int, list[str]]:
  """How many of the inputs were read, and what went wrong; a child that ends is followed by two."""
  ended = children.run(f"{targets.__name__}:attempt", target, seed, first, count, folder=home)
  if not ended.problem and ended.answer is not None:
    read, failures = ended.answer
    return read, [f"{target} {seed}: {failure}" for failure in failures]
  if count == 1 or target in targets.GIVEN:  # what hypothesis gives cannot be taken apart
    said = (ended.said.strip().splitlines() or ["nothing"])[-1]
    return 0, [f"{target} {seed}: input {first}: {ended.problem or said}"]
  half = count // 2
  one = _batch(children, home, target, seed, first, half)
  two = _batch(children, home, target, seed, first + half, count - half)
  return one[0] + two[0], one[1] + two[1]
