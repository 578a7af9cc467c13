"""Sweeps whose runner, workers or server of processes are killed, and that are started again.

Held is: every run ends with the arrays and batches of an undisturbed sweep, none that was done is
started again, none goes back behind what it had saved, and no process is left behind.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from . import killing, runs
from .commands import SUBJECT, Command, written
from .outcome import Outcome, Say, judged

# Who is harmed, and with what. The runner's signal reaches all; the server is what processes are
# forked from.
HARMS = (
  ("runner", signal.SIGKILL),
  ("worker", signal.SIGKILL),
  ("runner", signal.SIGTERM),
  ("server", signal.SIGKILL),
  ("all", signal.SIGKILL),
)
RUNS, STEPS = 3, 60
PACE = ("pause=0.02", "evals.heldout.every=35", "save_every=5")
LIMIT = 1800  # seconds after which a sweep hangs, on a busy machine
LEAVE = 60  # seconds in which processes must be gone whose runner is


@dataclasses.dataclass(frozen=True)
class Before:
  """What a sweep had come to when it was harmed.

  Attributes:
    done: the starts of the runs that were done, by name.
    steps: the newest line of the journal of each run that was at work.
    saved: their newest checkpoints.
    processes: those that were there.
  """

  done: dict[str, int]
  steps: dict[str, int]
  saved: dict[str, int]
  processes: list[int]


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """`n` sweeps (two for each kind of harm by default), each harmed once, at a random moment."""
  draw, count = random.Random(seed), n or 2 * len(HARMS)
  with tempfile.TemporaryDirectory() as name:
    return judged(results(count, draw, Path(name)), count, say)


def results(count: int, draw: random.Random, folder: Path) -> Iterator[tuple[str, str]]:
  """(what was done to a sweep, what was wrong after it or nothing)."""
  text = written(folder / "text.txt")
  undisturbed = folder / "undisturbed"
  with start(text, undisturbed) as command:
    if command.wait(LIMIT) != 0:
      raise RuntimeError(f"an undisturbed sweep failed:\n{command.text}")
  expected = {
    name: killing.Ending(
      runs.digest(runs.arrays(undisturbed / name)), runs.batches(undisturbed / name)
    )
    for name in names()
  }
  for i in range(count):
    who, number = HARMS[i % len(HARMS)]
    after = draw.randrange(1, RUNS * STEPS * 9 // 10)
    case = f"{number.name} to {who} after {after} steps"
    yield case, harmed(text, folder / str(i), who, number, after, draw, expected)


def names() -> list[str]:
  """Of the runs."""
  return [f"tiny/seed_{seed}" for seed in range(RUNS)]


def start(text: Path, workdir: Path) -> Command:
  """The sweep, two runs at once."""
  words = (f"text={text}", f"steps={STEPS}", f"count={RUNS}", *PACE)
  where = ("--workdir", workdir, "--workers", "2")
  return Command("research.cli", "sweep", f"{SUBJECT}:seeds", *words, *where)


def harmed(
  text: Path,
  workdir: Path,
  who: str,
  number: int,
  after: int,
  draw: random.Random,
  expected: dict[str, killing.Ending],
) -> str:
  """What was wrong with how a sweep ended that was harmed after so many steps, or nothing."""
  with start(text, workdir) as command:
    if not command.until(lambda: sum(reached(workdir / each) for each in names()) >= after, LIMIT):
      return f"it was over before it could be harmed:\n{command.text}"
    before = harm(command, workdir, who, number, draw)
    if who in ("runner", "all") and (code := command.wait(LIMIT)) not in (-number, 42):
      return f"it ended with {code}:\n{command.text}"
    if who in ("runner", "all"):
      with start(text, workdir) as again:  # at once: others may be at work still
        code, said = again.wait(LIMIT), again.text
    else:
      code, said = command.wait(LIMIT), command.text
  if code != 0:
    return f"it ended with {code}:\n{said}"
  return (
    _other_ending(workdir, expected)
    or _run_twice(workdir, before)
    or _lost(workdir, before, softly=who == "runner")
    or _left_behind(before)
  )


def harm(command: Command, workdir: Path, who: str, number: int, draw: random.Random) -> Before:
  """Sends the signal; says how the sweep stood at that moment."""
  from research import entry, lock

  entries = {name: entry.read(workdir / name) for name in names()}
  holders = {name: lock.holder(workdir / name) for name in names()}
  workers = {name: int(who.split()[1]) for name, who in holders.items() if who}
  server = _server(command.pid)
  chosen = {
    "runner": [command.pid],
    "worker": draw.sample(sorted(workers.values()), min(1, len(workers))),
    "server": [server],
    "all": [command.pid, *workers.values()],
  }[who]
  before = Before(
    {name: each.starts for name, each in entries.items() if each and each.state == entry.DONE},
    {name: reached(workdir / name) for name in workers},
    {name: runs.newest(workdir / name) or 0 for name in workers},
    [command.pid, server, *workers.values()],
  )
  for process in chosen:
    with contextlib.suppress(ProcessLookupError):
      os.kill(process, number)
  return before


def reached(workdir: Path) -> int:
  """The newest step that a run's journal has."""
  return max(runs.train_lines(workdir), default=0)


def _server(runner: int) -> int:
  """The process that a runner forks others from."""
  for path in Path("/proc").glob("[0-9]*/stat"):
    with contextlib.suppress(OSError):
      parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
      words = (path.parent / "cmdline").read_bytes()
      if parent == runner and b"multiprocessing.forkserver" in words:
        return int(path.parent.name)
  raise RuntimeError("the runner has no server")


def _other_ending(workdir: Path, expected: dict[str, killing.Ending]) -> str:
  found = ((name, ending.differs(workdir / name)) for name, ending in expected.items())
  return next((f"{name} {problem}" for name, problem in found if problem), "")


def _run_twice(workdir: Path, before: Before) -> str:
  from research import entry

  for name, starts in before.done.items():
    if entry.read(workdir / name).starts != starts:
      return f"{name} was done, and was started again"
  return ""


def _lost(workdir: Path, before: Before, *, softly: bool) -> str:
  """A run went back behind its checkpoint; where it was asked to stop, behind the step that it had
  reached."""
  for name, saved in before.saved.items():
    wanted = before.steps[name] if softly else saved
    said = (workdir / name / "output.log").read_text(encoding="utf-8", errors="replace")
    resumed = [int(step) for step in re.findall(r"resumed at step (\d+)", said)]
    if wanted and resumed and min(resumed) < wanted:
      return f"{name} went back to step {min(resumed)} of {wanted}"
    if runs.quarantined(workdir / name):
      return f"{name} has damaged checkpoints"
  return ""


def _left_behind(before: Before) -> str:
  end = time.monotonic() + LEAVE
  left = before.processes
  while left := [process for process in left if _alive(process)]:
    if time.monotonic() > end:
      return f"{len(left)} processes were left behind"
    time.sleep(0.1)
  return ""


def _alive(process: int) -> bool:
  try:
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
  except OSError:
    return False
