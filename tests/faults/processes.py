"""Two and four processes of `launch local`, one of which is killed, stopped, stuck, at fault, ...

Held is: all of them end within the patience of the watchdog and a grace, all start again, and the
final arrays are those of an undisturbed run of as many processes.
"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from . import killing, runs
from .commands import Command, launched, written
from .outcome import Outcome, Say, judged, spread

HARMS = ("kill", "stop", "stuck", "exception", "sigterm", "abort")
# How often a process has to get there before it comes to harm: checkpoints lie behind it by then.
PLACES = {"opening": 1, "step": 8, "save": 2, "evaluation": 2}
CHAIN = 4  # faults in one run, each in a start of its own
STEPS = 60
PATIENCE = 20  # seconds without a sign of life, after which a process ends itself
JOIN = 40  # seconds until all processes must have found one another
GRACE = 15  # seconds that the launcher and a busy machine take to end the others
AGAIN = r"launch: .*; all start again"


@dataclasses.dataclass(frozen=True)
class Case:
  """A fault in process `rank` of so many, at a place."""

  processes: int
  harm: str
  rank: int
  place: str

  def __str__(self) -> str:
    return f"{self.harm} in process {self.rank} of {self.processes} at {self.place}"

  @property
  def word(self) -> str:
    return f"{self.harm}:{self.rank}:{self.place}:{PLACES[self.place]}"


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """`n` cases at even distances, all by default; nothing is random."""
  chosen = spread(cases(), n)
  seconds: list[float] = []
  with tempfile.TemporaryDirectory() as name:
    outcome = judged(results(chosen, Path(name), seconds), len(chosen), say)
  outcome.figures["seconds to the end of all, at most"] = round(max(seconds, default=0))
  return outcome


def cases() -> list[Case]:
  """Each harm at each place in each of two processes, and some in the last of four."""
  two = itertools.product(HARMS, (0, 1), PLACES)
  four = [(harm, 3, place) for harm, place in zip(HARMS, itertools.cycle(PLACES))]
  return [Case(2, *case) for case in two] + [Case(4, *case) for case in four]


def results(chosen: list[Case], folder: Path, seconds: list[float]) -> Iterator[tuple[str, str]]:
  """(case, what was wrong or nothing); `seconds` are those that it took to end all."""
  text = written(folder / "text.txt")
  for processes, group in itertools.groupby(chosen, key=lambda case: case.processes):
    undisturbed = _undisturbed(processes, text, folder)
    cases = list(group)
    for i in range(0, len(cases), CHAIN):
      workdir = folder / f"{processes}-processes-{i}"
      yield from _chain(cases[i : i + CHAIN], text, workdir, seconds, undisturbed)


def start(chain: list[Case], processes: int, text: Path, workdir: Path) -> Command:
  """The launcher, with the faults planted."""
  return launched(
    "faulty",
    f"text={text}",
    f"steps={STEPS}",
    f"faults={','.join(case.word for case in chain) or 'none:0:nowhere:1'}",
    f"workdir={workdir}",
    f"patience={PATIENCE}",
    "save_every=5",
    "evals.heldout.every=6",
    workdir=workdir,
    processes=processes,
    RESEARCH_JOIN_SECONDS=str(JOIN),
  )


def _undisturbed(processes: int, text: Path, folder: Path) -> killing.Ending:
  workdir = folder / f"{processes}-undisturbed"
  with start([], processes, text, workdir) as command:
    if command.wait() != 0:
      raise RuntimeError(f"{processes} undisturbed processes failed:\n{command.text}")
  return killing.Ending(runs.digest(runs.arrays(workdir)), runs.batches(workdir))


def _chain(
  chain: list[Case],
  text: Path,
  workdir: Path,
  seconds: list[float],
  undisturbed: killing.Ending,
) -> Iterator[tuple[str, str]]:
  """One fault after the other; the last answers for how the run ends."""
  problem = ""
  with start(chain, chain[0].processes, text, workdir) as command:
    for i, case in enumerate(chain):
      problem = problem or _fault(command, workdir, i, seconds)
      if case is chain[-1] and not problem:
        code = command.wait()
        problem = (
          undisturbed.differs(workdir) if code == 0 else f"it ended with {code}:\n{command.text}"
        )
      yield str(case), problem


def _fault(command: Command, workdir: Path, i: int, seconds: list[float]) -> str:
  """What was wrong with how a fault ended the processes, or nothing."""
  if not command.until(runs.happened(workdir, i).exists):
    return f"the fault did not happen:\n{command.text}"
  began, before = time.monotonic(), command.children()
  ended = command.until(lambda: command.count(AGAIN) > i, PATIENCE + GRACE)
  seconds.append(time.monotonic() - began)
  if not ended:
    return f"they had not ended after {seconds[-1]:.0f} seconds:\n{command.text}"
  left = set(before) & set(command.children())
  return f"{len(left)} were left behind" if left else ""
