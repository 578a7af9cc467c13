"""Hundreds of saves in one process: memory, descriptors and threads stay, and nothing is left over.

Held is, for each of them: resident memory has grown by less than 5 % from a fifth of the run to its
end; no descriptors or threads stay that were not there; the folder of checkpoints holds the steps
that are to be kept. (TensorStore keeps about 40 kB of every save, in what it tells as JSON.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import aftermath
from .commands import QUICK, written
from .outcome import Outcome, Say, judged

SAVES = 500
STEPS = 2  # from save to save
PAUSE = 2.0  # seconds after each save where all are made, which so takes 20 minutes
GROWTH = 0.05
NEWEST = 2  # steps that are kept


@dataclasses.dataclass(frozen=True)
class Watch:
  """In the place of samples: what the process holds after every save.

  Attributes:
    say: is told how far it is, of how much.
    page: where that is written.
    pause: seconds that it then waits.
    every: steps.
    found: (bytes of resident memory, descriptors, threads) of each time.
  """

  say: Say
  of: int
  page: Any
  pause: float = 0.0
  every: int = STEPS
  found: list[tuple[int, int, int]] = dataclasses.field(
    default_factory=list, init=False, compare=False
  )

  def write(self, *_: Any) -> list[tuple[str, str]]:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    here = [len(os.listdir(f"/proc/self/{what}")) for what in ("fd", "task")]
    self.found.append((pages * os.sysconf("SC_PAGE_SIZE"), *here))
    with contextlib.redirect_stderr(self.page):
      self.say(len(self.found), self.of)
    time.sleep(self.pause)
    return [("", "")]


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """One run with `n` saves (500 by default), evaluated at every tenth of it; nothing is random."""
  os.environ.setdefault("XLA_FLAGS", QUICK)
  saves, pause = (SAVES, PAUSE) if n is None else (n, 0.0)
  began = time.monotonic()
  with tempfile.TemporaryDirectory() as name:
    workdir = Path(name) / "run"
    watch = _train(written(Path(name) / "text.txt"), workdir, saves, pause, say)
    left = {path.name for path in (workdir / "checkpoints").iterdir()} - aftermath.BESIDE
  settled = watch.found[saves // 5 :]
  memory, descriptors, threads = zip(*settled)
  tenth = max(1, len(memory) // 10)
  first, last = statistics.median(memory[:tenth]), statistics.median(memory[-tenth:])
  kept = {str(STEPS * (saves - i)) for i in range(NEWEST)}
  results = [
    ("memory", f"it grew by {last / first - 1:.1%}" if last / first - 1 >= GROWTH else ""),
    ("descriptors", _more(descriptors)),
    ("threads", _more(threads)),
    ("folders", "" if left == kept else f"there are {sorted(left)}"),
  ]
  return judged(
    results,
    len(results),
    lambda *_: None,
    saves=len(watch.found),
    seconds=round(time.monotonic() - began),
    memory=f"{first / 1e6:.0f} MB to {last / 1e6:.0f} MB, {last / first - 1:+.1%}",
    descriptors=f"{min(descriptors)} to {max(descriptors)}",
    threads=f"{min(threads)} to {max(threads)}",
  )


def _more(counts: tuple[int, ...]) -> str:
  """How many never go away again in the second half, beyond those of the first; or nothing."""
  half = len(counts) // 2
  first, then = min(counts[:half]), min(counts[half:])
  return f"they were {first} at least, and then {then}" if then > first else ""


def _train(text: Path, workdir: Path, saves: int, pause: float, say: Say) -> Watch:
  from research import train
  from research.retention import Keep
  from tests import tiny_experiment

  watch = Watch(say, saves, sys.stderr, pause)
  experiment = dataclasses.replace(
    tiny_experiment.experiment(str(text), STEPS * saves),
    samples=watch,
    save_every=STEPS,
    keep=Keep(newest=NEWEST),
  )
  with contextlib.redirect_stderr(io.StringIO()):
    train.train(experiment, workdir)
  return watch
