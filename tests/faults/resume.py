"""Runs of every family of models in several stretches, each in a fresh process.

A stretch ends by SIGTERM or is killed: in the middle of an epoch, at its edge, where an evaluation
or a checkpoint is due. Held is: the final arrays are those of an unbroken run, bit for bit, and so
is every line of the journal but for its times.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import compared, fresh, runs
from .commands import ROOT
from .outcome import Outcome, Say, judged, spread

FILE = ROOT / "tests" / "faults" / "families.py"
FAMILIES = ("gpt", "bert", "encoder_decoder", "clip")
CODES = {"term": 42, "kill": -9}  # with which a stretch ends
# (steps of a stretch, how it ends), and then to the end. Evaluations are at multiples of 3,
# checkpoints at multiples of 6.
STRETCHES = [
  [(1, "term"), (6, "term"), (3, "kill")],  # ends at steps 1, 7; killed at 10
  [(9, "term"), (4, "kill"), (5, "term")],  # at an evaluation; killed at 13, goes on from 12 to 17
]


@dataclasses.dataclass(frozen=True)
class Case:
  """A family and how its run is cut."""

  family: str
  stretches: list[tuple[int, str]]

  def __str__(self) -> str:
    cut = ", ".join(f"{how} after {steps}" for steps, how in self.stretches)
    return f"{self.family}: {cut}"


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """`n` cases at even distances, all by default; nothing is random."""
  chosen = spread(cases(), n)
  with tempfile.TemporaryDirectory() as name:
    return judged(results(chosen, Path(name)), len(chosen), say)


def cases() -> list[Case]:
  """Each family in two ways, and one that is counted and not descended."""
  cut = [Case(family, stretches) for family in FAMILIES for stretches in STRETCHES]
  return [*cut, Case("ngram", [])]


def results(chosen: list[Case], folder: Path) -> Iterator[tuple[str, str]]:
  """(case, what was wrong or nothing)."""
  from . import families

  families.write(folder)
  unbroken: dict[str, Path] = {}
  with fresh.fresh() as processes:
    for i, case in enumerate(chosen):
      problem = ""
      if case.family not in unbroken:
        unbroken[case.family] = folder / case.family
        problem = _stretch(processes, case.family, folder / case.family)
      problem = problem or _one(processes, case, folder / f"run-{i}", unbroken[case.family])
      yield str(case), problem


def _one(processes: fresh.Fresh, case: Case, workdir: Path, unbroken: Path) -> str:
  for steps, how in case.stretches:
    if problem := _stretch(processes, case.family, workdir, steps, how):
      return problem
  # A model that is counted is counted anew by the second start.
  for _ in range(1 if case.stretches else 2):
    if problem := _stretch(processes, case.family, workdir):
      return problem
  if _content(workdir) != _content(unbroken):
    return "it came to other arrays than an unbroken run"
  found, wanted = compared.told(workdir), compared.told(unbroken)
  if found == wanted:
    return ""
  other = next((a for a, b in zip(found, wanted) if a != b), f"{len(found)} of {len(wanted)} lines")
  return f"its journal is another: {other}"


def _stretch(
  processes: fresh.Fresh, family: str, workdir: Path, after: int = 0, how: str = "term"
) -> str:
  """What was wrong with a stretch that was to end so, or nothing."""
  words = ["run", f"{FILE}:{family}", f"folder={workdir.parent}", "--workdir", str(workdir)]
  words += [f"after={after}"] if after else []
  words += [f"how={how}"] if how != "term" else []
  said = workdir.with_name(f"{workdir.name}.txt")
  ended = processes.research(*words, said=said)
  expected = CODES[how] if after else 0
  return "" if ended == expected else f"a stretch ended with {ended}:\n{said.read_text()}"


def _content(workdir: Path) -> str:
  """A digest of what a run has come to."""
  import numpy as np

  if (workdir / "model.npz").is_file():
    with np.load(workdir / "model.npz") as found:
      return runs.digest(found)
  return runs.digest(runs.arrays(workdir))
