"""SIGTERM and SIGINT at random times: compiling, training, evaluating, writing text, saving.

Held is: the run ends within ten seconds with exit code 42 and a checkpoint of the step that it says
it stopped at, or the one that it would have gone on from; a second signal ends it at once. Started
again, it comes to the arrays and batches of an unbroken run.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from . import killing, runs
from .commands import Command
from .outcome import Outcome, Say, judged

SIGNALS = 50
LIMIT = 10  # seconds until a run has ended
AT_ONCE = 3  # seconds, where it was told twice
TWICE = 7  # every so-manieth signal is followed by another
STOPPED = 42


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a run is when the signal comes.

  Attributes:
    begins: whether it has got there.
    seconds: that the signal then waits for, at most.
    fresh: without the programs that were compiled before.
  """

  begins: Callable[[Command, Path], object]
  seconds: float
  fresh: bool = False


def _prints(pattern: str) -> Callable[[Command, Path], object]:
  return lambda command, _: command.find(pattern)


def _saves(command: Command, workdir: Path) -> object:
  return command.find(killing.BEGUN) and runs.unfinished(workdir)


PLACES = {
  "opening": Place(_prints("reached opening"), 1.0),
  "compiling": Place(_prints(killing.BEGUN), 1.0, fresh=True),
  "training": Place(_prints(killing.BEGUN), 3.0),
  "evaluating": Place(_prints("reached evaluation"), 0.1),
  "writing": Place(_prints("reached sample"), 0.5),
  "saving": Place(_saves, 0.1),
}


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """`n` signals (50 by default), at times that `seed` chooses."""
  n = SIGNALS if n is None else n
  seconds: dict[str, list[float]] = {place: [] for place in PLACES}
  with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    subject = subject_in(folder)
    expected = killing.unbroken(subject, folder / "unbroken")
    draw = random.Random(seed)
    outcome = judged(signalled(subject, n, draw, folder, seconds, expected), n, say)
  for place, found in seconds.items():
    if found:
      outcome.figures[f"seconds to the end while {place}, at most"] = round(max(found), 1)
  return outcome


def subject_in(folder: Path, steps: int = killing.STEPS) -> killing.Subject:
  """The tiny GPT, which also writes text."""
  _, *words = killing.subjects(folder, steps)[0].words
  return killing.Subject("gpt", ("sampling", *words, "every=25"))


def signalled(
  subject: killing.Subject,
  n: int,
  draw: random.Random,
  folder: Path,
  seconds: dict[str, list[float]],
  expected: killing.Ending,
  places: Iterable[str] = PLACES,
) -> Iterator[tuple[str, str]]:
  """(where which signal came, what was wrong or nothing), in as many runs as it takes."""
  kinds = list(itertools.product((signal.SIGTERM, signal.SIGINT), places))
  done, workdir = 0, None
  while done < n:
    workdir = workdir or folder / f"signals-{done}"
    twice = done % TWICE == TWICE - 1
    number, place = kinds[done % len(kinds)]
    after, problem = _one(subject, workdir, PLACES[place], number, twice, draw, folder)
    if after is None and not problem:  # it was done before
      problem, workdir = expected.differs(workdir), None
      if not problem:
        continue
    done += 1
    seconds[place] += [] if after is None or twice else [after]
    if done == n and not problem:
      with subject.start(workdir) as command:
        code = command.wait()
      problem = expected.differs(workdir) if code == 0 else f"went on to {code}:\n{command.text}"
    yield f"{number.name}{' twice' * twice} while {place}", problem
    if problem:
      workdir = None


def _one(
  subject: killing.Subject,
  workdir: Path,
  place: Place,
  number: signal.Signals,
  twice: bool,
  draw: random.Random,
  folder: Path,
) -> tuple[float | None, str]:
  """Seconds from the signal to the end, None where the run was done before; what was wrong."""
  programs = {}
  if place.fresh:
    programs["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(dir=folder)
  before = runs.newest(workdir)
  with subject.start(workdir, **programs) as command:
    if command.until(lambda: place.begins(command, workdir)):
      command.until(lambda: False, draw.uniform(0, place.seconds))
    if command.over:
      code = command.wait()
      return None, "" if code == 0 else f"it ended with {code} by itself:\n{command.text}"
    told = time.monotonic()
    command.send(number)
    if twice:
      command.until(lambda: False, draw.uniform(0.05, 0.3))
      told = time.monotonic()
      command.send(number)
    code = command.wait(60)
    after = time.monotonic() - told
  if code == 0:
    return None, ""
  problem = (
    _left(command, code, number)
    if twice and code != STOPPED
    else _kept(command, code, workdir, before)
  )
  # Two signals are heard as one where the second comes before Python has looked for the first.
  limit = AT_ONCE if twice and code != STOPPED else LIMIT
  if not problem and after > limit:
    problem = f"it took {after:.1f} seconds"
  return after, problem


def _left(command: Command, code: int | None, number: signal.Signals) -> str:
  """What is wrong with a run that was told twice to end."""
  by_signal = {-number, 128 + number}
  return "" if code in by_signal else f"it ended with {code}:\n{command.text}"


def _kept(command: Command, code: int | None, workdir: Path, before: int | None) -> str:
  """What is wrong with a run that was told to end, where `before` was the newest checkpoint."""
  if code != STOPPED:
    return f"it ended with {code}:\n{command.text}"
  if not command.find(killing.BEGUN):  # nothing was begun that would have to be saved
    return "" if runs.newest(workdir) == before else f"step {before} is gone"
  said = command.find(r"stopped at step (\d+) with a checkpoint")
  step = int(said[1]) if said else None
  if step is None or runs.newest(workdir) != step:
    return f"it stopped at {step}, with {runs.newest(workdir)} as the newest checkpoint"
  written = max(runs.train_lines(workdir), default=0)
  return "" if written == step else f"it stopped at {step}, and the journal ends at {written}"
