"""NaN, Inf and spikes in the loss or the gradient alone: each costs its step and nothing else.

Held is: the step is not taken, and no other; parameters, optimizer, average and statistics are the
bits that they were; its batch is written down and found again by its examples' numbers. So many in
a row end the run with exit code 4, or it goes back and comes, also killed and started again, to
what a run comes to that never met those batches. Every step has one line in the journal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import compared, in_a_row, runs, skips
from .commands import QUICK, written
from .outcome import Outcome, Say, judged, spread

STEPS = 12
# The warm-up of the learning rate is over after six steps. Nothing is a spike before there are
# statistics.
FIRST, WARMUP, MIDDLE, LAST = 1, 5, 8, STEPS

COUNTS = {"step", "guard/skipped"}  # that change also with a step that is not taken


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """`n` cases at even distances, all by default; nothing is random."""
  os.environ.setdefault("XLA_FLAGS", QUICK)
  chosen = spread(cases(), n)
  with tempfile.TemporaryDirectory() as name:
    return judged(results(chosen, Path(name)), len(chosen), say)


def cases() -> list[Any]:
  """Single bad batches, then several in a row."""
  single = itertools.product(
    ("nan", "inf", "-inf", "spike"), ("loss", "gradient"), ("float32", "bfloat16")
  )
  return [*(Single(*case) for case in single), *in_a_row.cases()]


def results(chosen: list[Any], folder: Path) -> Iterator[tuple[str, str]]:
  """(case, what was wrong or nothing)."""
  text = written(folder / "text.txt")
  for i, case in enumerate(chosen):
    with contextlib.redirect_stderr(io.StringIO()):
      problem = case.problem(text, folder / f"run-{i}")
    yield str(case), problem


@dataclasses.dataclass(frozen=True)
class Single:
  """Bad batches, one at a time: at the first step, in the warm-up, in the middle, at the last."""

  value: str
  where: str
  dtype: str

  @property
  def bad(self) -> list[int]:
    """Steps, from 1 on."""
    return [step for step in (FIRST, WARMUP, MIDDLE, LAST) if (step, self.value) != (1, "spike")]

  def __str__(self) -> str:
    return f"{self.value} in the {self.where}, {self.dtype}, at the steps {self.bad}"

  def problem(self, text: Path, workdir: Path) -> str:
    """What was wrong, or nothing."""
    from research import train

    from . import poison

    batches = {step: step - 1 for step in self.bad}
    experiment = poison.experiment(
      str(text), STEPS, self.value, self.where, tuple(batches.values()), dtype=self.dtype
    )
    train.train(experiment, workdir)
    if (found := skips.skipped(workdir)) != self.bad:
      return f"the steps {found} were not taken"
    return (
      skips.uneven(workdir, STEPS)
      or _changed(workdir, self.bad)
      or skips.undumped(experiment, workdir, batches)
    )


def _changed(workdir: Path, bad: list[int]) -> str:
  """What is wrong with what the steps have changed; nothing if all is well."""
  import numpy as np

  found = {step: runs.arrays(workdir, step) for step in range(1, STEPS + 1)}
  for step in range(2, STEPS + 1):
    changed = compared.changed(found[step - 1], found[step])
    if step in bad and changed - COUNTS:
      return f"step {step}, which was not taken, changed {sorted(changed - COUNTS)[:3]}"
    if step not in bad and not any(name.startswith("params/") for name in changed):
      return f"step {step}, which was taken, changed no parameter"
  finite = all(np.isfinite(x).all() for x in found[STEPS].values())
  return "" if finite else "not all numbers are finite at the end"
