"""Runs the experiments of a sweep: starts as many at once as there are shares, and starts again
what died.

What a folder says is what counts. A run that is done by its folder is not started; one that another
process is at work on, left by a runner that was killed or begun by a second one, is waited for.
So it makes no difference when and how often a runner is killed, or how many there are.
"""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from research import entry, lock, record
from research.errors import UserError
from research.experiment import Experiment
from research.ledger import Ledger
from research.load import Recipe
from research.sweep import row
from research.sweep.display import Display, display
from research.sweep.processes import Process, Processes
from research.sweep.row import FINAL, HELD, WAITING, Row, Swept
from research.sweep.shares import shares
from research.sweep.worker import Task

TRIES = 3  # in a row that may bring no newer checkpoint, before a run counts as failed
HELD_SECONDS = 1.0  # between two looks at whether another process is done with a run
LONGEST = 60.0  # seconds before another try


def sweep(
  recipe: Recipe,
  experiments: Sequence[Experiment],
  workdir: Path,
  *,
  workers: int | None = None,
) -> Swept:
  """Runs experiments of a recipe, each in `workdir`/<its name> and in a process of its own.

  Those that are done are not run again. Failures are kept, and end nothing but their own run. On
  SIGTERM or SIGINT all processes save and stop; a second one ends them at once.

  Args:
    recipe: that has made them, and makes them again in each process.
    experiments: all or some of those that it names.
    workdir: of the sweep; the ledger lies there.
    workers: how many at once; see `shares`.

  Raises:
    UserError: a name of which no folder can be made, or a folder that cannot be written.
  """
  for experiment in experiments:
    record.check_name(experiment)
  rows = row.rows(experiments, workdir)
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(
      f"{workdir} cannot be made: {error.strerror}; give another --workdir."
    ) from error
  for each in rows:
    if each.done_before():
      each.state = entry.DONE
  todo = sum(each.open for each in rows)
  if not todo:
    return Swept(tuple(rows), stopped=False)
  parts = shares(workers, todo)
  by_name = {experiment.name: experiment for experiment in experiments}
  with Ledger(workdir) as ledger, display(rows, len(parts)) as shown, Processes(parts) as begun:
    return _Runner(recipe, by_name, rows, begun, ledger, shown).run()


@dataclasses.dataclass(frozen=True)
class _Runner:
  recipe: Recipe
  experiments: dict[str, Experiment]
  rows: list[Row]
  processes: Processes
  ledger: Ledger
  shown: Display

  def run(self) -> Swept:
    try:
      self._until_all_have_ended()
    except BaseException:
      self.shown.stopping(self.processes.stopping + 1)
      raise
    for each in self.rows:
      if each.open:
        each.state = entry.STOPPED
    stopped = any(each.state == entry.STOPPED for each in self.rows)
    return Swept(tuple(self.rows), stopped)

  def _until_all_have_ended(self) -> None:
    processes = self.processes
    while processes.running or (not processes.stopping and any(each.open for each in self.rows)):
      self._start()
      self.shown.update()
      for ended in processes.ended():
        self._ended(ended)
      self.shown.stopping(processes.stopping)

  def _start(self) -> None:
    """Starts what can be started, the first of the file first."""
    for each in self.rows:
      if self.processes.stopping or not self.processes.free:
        return
      if each.open and time.monotonic() >= each.not_before:
        self._start_one(each)

  def _start_one(self, each: Row) -> None:
    who = lock.holder(each.workdir)  # first: an entry is written before its lock is given back
    if each.done_before():
      each.state, each.fresh = entry.DONE, True
      self._tell(each)
      return
    if who:
      self._hold(each, who)
      return
    each.newest, now = each.checkpoint(), time.time()
    try:
      begun = self.processes.start(Task(self.recipe, each.name, each.workdir, each.identity), each)
    except UserError as error:
      each.code = error.exit_code
      self._failed(each, str(error))
      self._tell(each)
      return
    if begun:
      each.state, each.error, each.started = entry.RUNNING, "", now
      self.shown.tell(each)

  def _ended(self, ended: Process) -> None:
    each, code = ended.of, ended.code
    each.code = code if code >= 0 else 128 - code
    who = lock.holder(each.workdir)  # first, as in `_start_one`
    if each.code == 0 or each.done_before():
      each.state, each.fresh = entry.DONE, True
    elif self.processes.stopping and each.code not in FINAL:
      each.state = entry.STOPPED
    elif who:
      self._hold(each, who)
      return
    elif each.code in FINAL:
      self._failed(each, each.told_in_folder() or each.how())
    else:
      self._again(each)
    self._tell(each)

  def _again(self, each: Row) -> None:
    each.idle = 0 if each.checkpoint() > each.newest else each.idle + 1
    if each.idle <= TRIES:
      each.state = WAITING
      each.not_before = time.monotonic() + (
        min(LONGEST, 2.0 ** (each.idle - 1)) if each.idle else 0
      )
      return
    why = each.told_in_folder() if each.code == 1 else ""
    if each.code == 128 + signal.SIGKILL:
      why = "ended by SIGKILL; where memory was short, give fewer --workers"
    tries = f"{each.idle} tries in a row brought no newer checkpoint"
    self._failed(each, f"{why or each.how()}; {tries}")

  def _failed(self, each: Row, error: str) -> None:
    """Keeps a failure, also in the folder, unless that holds the run of another experiment."""
    each.state, each.error = entry.FAILED, error
    found = entry.read(each.workdir)
    if found is not None and (found.identity != each.identity or each.tells(found)):
      return
    found = found or entry.first(self.experiments[each.name], self.recipe.path)
    failed = dataclasses.replace(found, state=entry.FAILED, error=error, ended=time.time())
    entry.write(each.workdir, failed)

  def _hold(self, each: Row, who: str) -> None:
    told = each.state == HELD
    each.state, each.error = HELD, who
    each.not_before = time.monotonic() + HELD_SECONDS
    if not told:
      self.shown.tell(each)

  def _tell(self, each: Row) -> None:
    if each.state == entry.DONE:
      each.error = ""
    self.ledger.take(each.workdir)
    self.shown.tell(each)
