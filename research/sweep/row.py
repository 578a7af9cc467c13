"""How the runs of a sweep stand: rows of its display, and what it returns."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Sequence
from pathlib import Path

from research import entry
from research.errors import IntegrityError, NumericsError, UserError
from research.experiment import Experiment
from research.retention import Keep
from research.steps import Steps
from research.sweep.worker import OUTPUT, STOPPED

WAITING, HELD = "waiting", "held"  # beside the states of `entry`; held: by another process
FINAL = tuple(kind.exit_code for kind in (UserError, IntegrityError, NumericsError))


@dataclasses.dataclass
class Row:
  """One run of a sweep.

  Attributes:
    name: of the experiment.
    workdir: its folder.
    identity: see `entry.identity`.
    steps: of the whole run.
    state: "waiting", "running", "held", "done", "failed" or "stopped".
    error: of a failed one, in a line; of a held one, who holds it.
    code: the exit code of its newest process, as a shell says it.
    fresh: whether it was done by this sweep, and not before.
    idle: its tries in a row that brought no newer checkpoint.
    newest: its newest checkpoint when it was last started, -1 for none.
    not_before: when it may be started, by `time.monotonic`.
    started: when it was last started, in seconds since 1970.
  """

  name: str
  workdir: Path
  identity: str
  steps: int
  state: str = WAITING
  error: str = ""
  code: int | None = None
  fresh: bool = False
  idle: int = 0
  newest: int = -1
  not_before: float = 0.0
  started: float = 0.0

  @property
  def open(self) -> bool:
    """Whether it has yet to be started, now or later."""
    return self.state in (WAITING, HELD)

  def done_before(self) -> bool:
    """Whether its folder says that it is done: the same experiment, by whatever code."""
    found = entry.read(self.workdir)
    return found is not None and (found.state, found.identity) == (entry.DONE, self.identity)

  def checkpoint(self) -> int:
    """The newest that is there, -1 for none."""
    return max(Steps(self.workdir / "checkpoints", Keep()).all(), default=-1)

  def told_in_folder(self) -> str:
    """Why it failed, by its folder: its entry, or the last line that its process printed."""
    found = entry.read(self.workdir)
    if found is not None and self.tells(found):
      return found.error
    try:
      with (self.workdir / OUTPUT).open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 4096))
        said = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
      said = []
    lines = [line.strip() for line in said if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else ""

  def tells(self, found: entry.Entry) -> bool:
    """Whether an entry is of a failure of its newest process, and not of an earlier one."""
    failed = found.state == entry.FAILED and found.identity == self.identity
    return failed and (found.ended or 0.0) >= self.started

  def how(self) -> str:
    """How its process ended, in words."""
    if self.code is not None and self.code > 128:
      try:
        return f"ended by {signal.Signals(self.code - 128).name}"
      except ValueError:
        pass
    return f"ended with exit code {self.code}"


@dataclasses.dataclass(frozen=True)
class Swept:
  """What became of a sweep: its rows, and whether it was stopped before its end."""

  rows: tuple[Row, ...]
  stopped: bool

  @property
  def failed(self) -> list[Row]:
    """Those that failed."""
    return [row for row in self.rows if row.state == entry.FAILED]

  @property
  def exit_code(self) -> int:
    """0 when all are done, 42 when it was stopped and can go on, else that of the first failure."""
    if self.stopped:
      return STOPPED
    return next((row.code or 1 for row in self.failed), 0)

  def summary(self) -> str:
    """For example "18 of 20 runs done (3 of them before), 2 failed"."""
    done = [row for row in self.rows if row.state == entry.DONE]
    before = sum(not row.fresh for row in done)
    parts = [f"{len(done)} of {len(self.rows)} runs done"]
    parts[0] += f" ({before} of them before)" if before else ""
    parts += [f"{len(self.failed)} failed"] if self.failed else []
    parts += ["stopped; the same command goes on"] if self.stopped else []
    return ", ".join(parts)


def rows(experiments: Sequence[Experiment], root: Path) -> list[Row]:
  """A waiting row for each experiment, whose folder is that of its name in `root`.

  Raises:
    UserError: the folder of one would lie within that of another, or `root` is that of a run.
  """
  if (root / "experiment.json").exists():
    raise UserError(f"{root} is the folder of a run; give a --workdir above the folders of runs.")
  names = {experiment.name for experiment in experiments}
  for name in names:
    above = name.rpartition("/")[0]
    while above:
      if above in names:
        raise UserError(
          f"the folder of {name} would lie within that of {above}; rename one of the experiments."
        )
      above = above.rpartition("/")[0]
  return [Row(e.name, root / e.name, entry.of(e), e.steps) for e in experiments]


def by_other_code(rows: Sequence[Row], code: str) -> int:
  """How many of the rows that were done before were done by other code than this."""
  before = [
    entry.read(each.workdir) for each in rows if each.state == entry.DONE and not each.fresh
  ]
  return sum(found is not None and found.code != code for found in before)
