"""Several bad batches in a row: the run ends, or goes back and passes over them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import compared, runs, skips, stops
from .commands import Command

TRIES = 3
CODE = 4  # with which a run ends that meets too many
KINDS = [
  ("nan", "loss", "float32"),
  ("inf", "gradient", "float32"),
  ("spike", "gradient", "bfloat16"),
  ("nan", "gradient", "bfloat16"),
]


def cases() -> list[Any]:
  """Rows that end a run, one that does not, and some from which it goes back."""
  plain = KINDS[0]
  return [
    *(Ends(*kind) for kind in KINDS),
    Ends(*plain, first=1),
    Ends(*plain, first=14),
    Ends(*plain, stopped=9),
    GoesOn(*plain),
    *(GoesBack(*kind) for kind in KINDS),
    GoesBack(*plain, bad=(0, 1, 2), passed=[(0, 4)]),
    GoesBack(*plain, save_every=1, passed=[(9, 10)]),
    GoesBack(*plain, bad=(6, 7, 8, 15, 16, 17), passed=[(5, 10), (15, 19)]),
    GoesBack(*plain, stopped=8, passed=[(8, 10)]),
    CommandLine(),
    Killed("before"),
    Killed("after"),
  ]


@dataclasses.dataclass(frozen=True)
class Row:
  """Bad batches, and how they are bad; see `poison`."""

  value: str
  where: str
  dtype: str

  def train(
    self, text: Path, workdir: Path, steps: int, bad: Iterable[int], stopped: int, **named: Any
  ) -> Any:
    """The experiment, which was run; once more where it was to be `stopped` after a step."""
    from research import train

    from . import poison

    experiment = poison.experiment(
      str(text), steps, self.value, self.where, tuple(bad), dtype=self.dtype, tries=TRIES, **named
    )
    if stopped:
      train.train(dataclasses.replace(experiment, samples=stops.After(stopped)), workdir)
    train.train(experiment, workdir)
    return experiment


@dataclasses.dataclass(frozen=True)
class Ends(Row):
  """As many bad steps as may be, from step `first` on: exit code 4."""

  first: int = 8
  stopped: int = 0

  def __str__(self) -> str:
    amid = f", stopped after step {self.stopped}" if self.stopped else ""
    return (
      f"{TRIES} times {self.value} in the {self.where}, {self.dtype}, from step {self.first}{amid}"
    )

  def problem(self, text: Path, workdir: Path) -> str:
    """What was wrong, or nothing."""
    from research.errors import NumericsError

    last = self.first + TRIES - 1
    bad = range(self.first - 1, last)
    try:
      self.train(text, workdir, 16, bad, self.stopped)
    except NumericsError as error:
      if f"{TRIES} steps in a row were not taken, the last of them {last}:" not in str(error):
        return f"it says: {error}"
    else:
      return "it came to its end"
    if (found := sorted(path.name for path in (workdir / "skipped").iterdir())) != sorted(
      f"step-{batch + 1}.npz" for batch in bad
    ):
      return f"written down were {found}"
    # Nothing of the bad steps is in what was saved last.
    before = runs.arrays(workdir, self.first - 1) if self.first > 1 else None
    changed = compared.changed(before, runs.arrays(workdir)) if before else set()
    changed -= {"step", "guard/skipped"}
    return f"{sorted(changed)[:3]} have changed" if changed else ""


@dataclasses.dataclass(frozen=True)
class GoesOn(Row):
  """One less than may be, twice."""

  def __str__(self) -> str:
    return f"twice {TRIES - 1} times {self.value} in the {self.where}, {self.dtype}"

  def problem(self, text: Path, workdir: Path) -> str:
    """What was wrong, or nothing."""
    bad = (6, 7, 9, 10)
    experiment = self.train(text, workdir, 16, bad, 0)
    if (found := skips.skipped(workdir)) != [batch + 1 for batch in bad]:
      return f"the steps {found} were not taken"
    return skips.uneven(workdir, 16) or skips.undumped(
      experiment, workdir, {batch + 1: batch for batch in bad}
    )


@dataclasses.dataclass(frozen=True)
class GoesBack(Row):
  """As many bad steps as may be, or twice so many: the run goes back, and passes over them.

  Attributes:
    bad: batches.
    passed: (first, end) of the batches that it then never learned from.
    save_every: steps between checkpoints.
    stopped: the step after which it is stopped, and started again.
  """

  bad: tuple[int, ...] = (6, 7, 8)
  passed: list[tuple[int, int]] = dataclasses.field(default_factory=lambda: [(5, 10)])
  save_every: int = 5
  stopped: int = 0

  def __str__(self) -> str:
    amid = f", stopped after step {self.stopped}" if self.stopped else ""
    return (
      f"back, and over the batches {self.passed}, of which {self.bad} are {self.value} in the "
      f"{self.where}, {self.dtype}{amid}"
    )

  def problem(self, text: Path, workdir: Path) -> str:
    """What was wrong, or nothing."""
    steps = 16
    experiment = self.train(
      text,
      workdir,
      steps,
      self.bad,
      self.stopped,
      rollbacks=len(self.passed),
      save_every=self.save_every,
    )
    if problem := skips.uneven(workdir, steps):
      return problem
    over = {batch for first, end in self.passed for batch in range(first, end)}
    batches = [batch for batch in range(steps + len(over)) if batch not in over]
    found, wanted = runs.arrays(workdir), plainly(experiment, batches)
    counted = int(found.pop("guard/passed")), int(found.pop("guard/rollbacks"))
    if counted != (len(over), len(self.passed)):
      return f"{counted} batches and times are counted, not {len(over)} and {len(self.passed)}"
    changed = compared.changed({name: wanted[name] for name in found}, found)
    if changed:
      return f"{sorted(changed)[:3]} are not what these batches make of it"
    left = [step for step in skips.skipped(workdir) if batches[step - 1] not in self.bad]
    return f"the steps {left} were not taken" if left else ""


def plainly(experiment: Any, batches: list[int]) -> dict[str, Any]:
  """The arrays that an experiment comes to on these batches, one after the other, in no loop of
  the library."""
  import jax

  from research import update
  from research.data import pipeline
  from research.stacking import unstack

  program = update.build(
    experiment, experiment.sharding.make_mesh(), update.abstract_batch(experiment)
  )
  source, state = experiment.data.source("train"), program.init()
  read = functools.partial(
    pipeline.batches, source, experiment.batch_size, seed=experiment.seed, threads=0
  )
  for number in batches:
    state, _ = program.step(state, program.place(next(read(start=number))))
  return jax.device_get(unstack(state))


@dataclasses.dataclass(frozen=True)
class CommandLine:
  """The exit code, and one line of it."""

  def __str__(self) -> str:
    return f"{TRIES} times nan, at the command line"

  def problem(self, text: Path, workdir: Path) -> str:
    """What was wrong, or nothing."""
    with _command(text, workdir) as command:
      code = command.wait()
    told = [line for _, line in command.lines if line.startswith("error: ")]
    if code != CODE or len(told) != 1 or "Traceback" in command.text:
      return f"it ended with {code}:\n{command.text}"
    return ""


@dataclasses.dataclass(frozen=True)
class Killed:
  """A run that went back, killed before or after its next checkpoint, and started again."""

  when: str

  def __str__(self) -> str:
    return f"back from nan, and killed (-9) {self.when} the next checkpoint"

  def problem(self, text: Path, workdir: Path) -> str:
    """What was wrong, or nothing."""
    unbroken = workdir.with_name(f"{workdir.name}-unbroken")
    start = functools.partial(_command, text, rollbacks=1, pause=0.1)
    with start(unbroken) as command:
      if command.wait() != 0:
        return f"unbroken, it ended with:\n{command.text}"
    with start(workdir) as command:
      command.says("back at step 5")
      if self.when == "after":
        command.until(lambda: (runs.newest(workdir) or 0) >= 10)
      if command.over:
        return f"it was over before it could be killed:\n{command.text}"
      command.kill()
    if (runs.newest(workdir) >= 10) != (self.when == "after"):
      return f"the checkpoint of step {runs.newest(workdir)} was the newest when it was killed"
    with start(workdir) as command:
      if command.wait() != 0:
        return f"started again, it ended with:\n{command.text}"
    if runs.digest(runs.arrays(workdir)) != runs.digest(runs.arrays(unbroken)):
      return "it came to other arrays than an unbroken run"
    if compared.told(workdir) != compared.told(unbroken):
      return "its journal is another than that of an unbroken run"
    return skips.uneven(workdir, 20)


def _command(text: Path, workdir: Path, **words: Any) -> Command:
  given = {
    "text": text, "steps": 20, "value": "nan", "where": "loss", "batches": (6, 7, 8),
    "save_every": 5, **words,
  }  # fmt: skip
  return Command(
    "research.cli",
    "run",
    "tests/faults/poison.py:experiment",
    *(f"{name}={value}" for name, value in given.items()),
    "--workdir",
    workdir,
  )
