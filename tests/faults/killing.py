"""A run killed again and again, started again each time, and compared with an unbroken one."""

from __future__ import annotations

import dataclasses
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from . import runs
from .commands import Command, research, written
from .outcome import Outcome, Say, judged

STEPS = 200
# Read slowly, so that a kill finds it at work; evaluated and saved often.
PACE = ("pause=0.02", "evals.heldout.every=35", "save_every=5")
BEGUN = r"[\d,]+ parameters"  # the first line of the loop

# Waits until the moment to kill a run; False where it is over before.
Moment = Callable[[Command, Path, random.Random], bool]


@dataclasses.dataclass(frozen=True)
class Subject:
  """What is run: words for `commands.research`."""

  name: str
  words: tuple[str, ...]

  def start(self, workdir: Path, **named) -> Command:
    return research(*self.words, workdir=workdir, **named)


@dataclasses.dataclass(frozen=True)
class Ending:
  """What a run has come to: a digest of all its arrays, and the batches of all its steps."""

  digest: str
  batches: dict[int, tuple[float, ...]]

  def differs(self, workdir: Path) -> str:
    """How the run in `workdir` ended otherwise, or nothing."""
    if runs.digest(runs.arrays(workdir)) != self.digest:
      return f"ended at step {runs.newest(workdir)} with other arrays than an unbroken run"
    if runs.batches(workdir) != self.batches:
      return "steps of the journal are not of the batches of an unbroken run"
    return ""


def subjects(folder: Path, steps: int = STEPS) -> list[Subject]:
  """The tiny GPT and the tiny CLIP."""
  text = written(folder / "text.txt")
  return [
    Subject("gpt", ("gpt", f"text={text}", f"steps={steps}", *PACE)),
    Subject("clip", ("clip", f"steps={steps}", *PACE)),
  ]


def unbroken(subject: Subject, workdir: Path) -> Ending:
  """What nobody disturbs.

  Raises:
    RuntimeError: it failed all the same.
  """
  with subject.start(workdir) as command:
    if command.wait() != 0:
      raise RuntimeError(f"an undisturbed run of {subject.name} failed:\n{command.text}")
  return Ending(runs.digest(runs.arrays(workdir)), runs.batches(workdir))


def outcome(n: int, seed: int, say: Say, moment: Moment) -> Outcome:
  """`n` kills of each subject, each at a `moment`."""
  figures = {"kills within a save": 0}
  with tempfile.TemporaryDirectory() as name:
    here = subjects(Path(name))
    results = (
      result
      for subject in here
      for result in killed(subject, n, random.Random(seed), moment, Path(name), figures)
    )
    outcome = judged(results, n * len(here), say)
  outcome.figures.update(figures)
  return outcome


def killed(
  subject: Subject,
  n: int,
  draw: random.Random,
  moment: Moment,
  folder: Path,
  figures: dict[str, int],
  expected: Ending | None = None,
) -> Iterator[tuple[str, str]]:
  """(which kill, what went wrong after it or nothing), `n` times, in as many runs as it takes.

  The last kill of a run answers for how the run ends.
  """
  expected = expected or unbroken(subject, folder / f"{subject.name}-unbroken")
  done = run = 0
  while done < n:
    run += 1
    workdir = folder / f"{subject.name}-{run}"
    before, last = 0, None
    while True:
      with subject.start(workdir) as command:
        alive = done < n and moment(command, workdir, draw)
        if alive:
          command.kill()
        code = command.wait()
      problem = _lost(command, code, alive, workdir, before, expected)
      if last and (problem or alive):  # what the kill before has led to is known now
        yield last, problem
        last = None
      if problem or not alive:
        break
      done, before = done + 1, runs.newest(workdir) or 0
      figures["kills within a save"] += bool(runs.unfinished(workdir))
      last = f"{subject.name}, run {run}, killed after the checkpoint of step {before}"
    if last:
      yield last, expected.differs(workdir)
    elif problem and not done:
      raise RuntimeError(problem)


def _lost(
  command: Command, code: int | None, killed: bool, workdir: Path, before: int, expected: Ending
) -> str:
  """What was lost in a start, or nothing."""
  if code is None:
    return f"it hangs:\n{command.text}"
  if not killed and code != 0:
    return f"started again, it ended with {code}:\n{command.text}"
  if found := runs.quarantined(workdir):
    return f"damaged steps were listed: {', '.join(found)}"
  if (runs.newest(workdir) or 0) < before:
    return f"step {before} is gone, {runs.newest(workdir)} is the newest"
  if other := [s for s, batch in runs.batches(workdir).items() if batch != expected.batches[s]]:
    return f"step {other[0]} was made of another batch than in an unbroken run"
  return ""
