"""Runs the trials of a search: asks for one wherever a share of the machine is free.

What a run's evaluations write into its folder is reported as it comes. Any number of these may work
on one search, on one machine or on many, and each may be killed at any time.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from research import disk, entry
from research.errors import NumericsError, UserError
from research.ledger import Ledger
from research.load import Recipe
from research.log import lines
from research.search import Search
from research.sweep import worker
from research.sweep.processes import Process, Processes
from research.sweep.shares import shares
from research.sweep.study import Held, State, Study
from research.sweep.worker import STOPPED, Task

FIRST = 3  # trials that may fail before any succeeds
PRUNED = "pruned"  # the state of a run that a search has ended; PRUNED.json says why


def search(
  wanted: Search,
  recipe: Recipe,
  workdir: Path,
  *,
  trials: int,
  workers: int | None = None,
  storage: str | None = None,
) -> int:
  """Runs what there is to run of a search, prints its table, and returns the exit code.

  Args:
    wanted: what is searched for.
    recipe: of the function that takes a trial, without one.
    workdir: the folder of the search; each run has one of its name in it.
    trials: how many there are to be in all, whoever runs them.
    workers: how many at once here; see `shares`.
    storage: the URL of a database that Optuna takes; None for a file in `workdir`.

  Raises:
    UserError: the file, the storage or the folder cannot be used; the first trials all fail.
  """
  study = Study(wanted, recipe, workdir, trials, storage)
  with Ledger(workdir) as ledger, Processes(shares(workers, study.trials)) as processes:
    _Runner(study, ledger, processes).run()
  show(study)
  left = any(x.state == State.RUNNING for x in study.all())
  return STOPPED if left or processes.stopping else 0


@dataclasses.dataclass
class _Run:
  held: Held
  step: int = 0  # that was reported last
  pruned: bool = False


@dataclasses.dataclass(frozen=True)
class _Runner:
  study: Study
  ledger: Ledger
  processes: Processes

  def run(self) -> None:
    self._start()
    while self.processes.running:
      for ended in self.processes.ended():
        self._ended(ended)
      for process in self.processes.running:
        self._look(process)
      self._start()

  def _start(self) -> None:
    while not self.processes.stopping and self.processes.free and (held := self.study.take()):
      name, identity = held.experiment.name, entry.of(held.experiment)
      try:
        begun = self.processes.start(Task(held.recipe, name, held.workdir, identity), _Run(held))
      except UserError as error:
        self.study.failed(held)
        held.release()
        print(f"{name}: {error}", flush=True)
        self._check()
        continue
      if not begun:
        held.stopped()
        held.release()

  def _look(self, process: Process) -> None:
    """Reports what is new, and ends a run that is not worth going on with."""
    each = process.of
    each.held.alive()
    for step, value in evaluations(each.held.workdir, self.study.search):
      if step > each.step:
        each.step = step
        each.pruned |= each.held.report(step, value) and step < each.held.experiment.steps
    if each.pruned:
      process.stop()

  def _ended(self, ended: Process) -> None:
    each, code = ended.of, ended.code
    held, study = each.held, self.study
    self._report_rest(each)
    value = dict(evaluations(held.workdir, study.search)).get(held.experiment.steps, math.nan)
    if code == 0 and math.isfinite(value):
      study.done(held, value)
      said = f"{study.search.metric} {value:.6g}"
    elif code == STOPPED and each.pruned:
      said = f"pruned at step {each.step}"
      _write_pruned(held.workdir, study.search.metric, each.step)
      study.pruned(held)
    elif code == NumericsError.exit_code:
      said = "its numbers are not finite"
      study.pruned(held)
    elif code in (0, 2, 3):
      what = f"measured no {study.search.metric}" if code == 0 else f"failed ({code})"
      said = f"{what}; see {held.workdir / worker.OUTPUT}"
      study.failed(held)
    elif self.processes.stopping:
      said = ""
      held.stopped()
    else:  # it died: whoever looks next goes on with it
      said = f"ended by itself ({code}), to be started again"
    held.release()
    if said:
      print(f"{held.experiment.name}: {said}   {_told(held.recipe.knobs)}", flush=True)
    if entry.read(held.workdir) is not None:
      self.ledger.take(held.workdir)
    self._check()

  def _report_rest(self, each: _Run) -> None:
    for step, value in evaluations(each.held.workdir, self.study.search):
      if step > each.step:
        each.held.report(step, value)

  def _check(self) -> None:
    """Where nothing but failures came, the search itself is mistaken."""
    states = [trial.state for trial in self.study.all()]
    if states.count(State.FAIL) >= FIRST and not {State.COMPLETE, State.PRUNED} & {*states}:
      raise UserError(
        f"the first {FIRST} trials have failed; what they printed is in {worker.OUTPUT} of their "
        "folders. Mend the experiment, and search with another --workdir."
      )


def evaluations(workdir: Path, wanted: Search) -> Iterator[tuple[int, float]]:
  """(step, value) of each evaluation that a run has written so far."""
  split, name = wanted.evaluation
  for line in lines.read(workdir / "metrics.jsonl")[0]:
    if line.get("split") == split and "step" in line:
      yield int(line["step"]), lines.number(line.get(name))


def show(study: Study) -> None:
  """Prints the trials, the best first, and how to run the best one again."""
  from rich import box, console, table

  found = study.all()
  names = list(dict.fromkeys(name for trial in found for name in trial.params))
  shown = table.Table("trial", study.search.metric, "state", "step", *names, box=box.SIMPLE)
  for trial in found:
    last = max(trial.intermediate_values, default=0)
    state = "left" if trial.state == State.RUNNING else trial.state.name.lower()
    value = "" if trial.value is None else f"{trial.value:.6g}"
    values = [_short(trial.params.get(name, "")) for name in names]
    shown.add_row(str(trial.number), value, state, str(last), *values)
  console.Console().print(shown)
  if found and found[0].state == State.COMPLETE:
    best = found[0]
    folder = study.workdir / best.user_attrs["name"]
    print(f"the best: {study.of(best.number, best.params).command(folder)}")


def _write_pruned(workdir: Path, metric: str, step: int) -> None:
  """A run that a search has ended did not fail; its folder says what became of it."""
  told = {"step": step, "metric": metric, "time": time.time()}
  disk.replace(workdir / f"{PRUNED}.json", json.dumps(told))
  if (found := entry.read(workdir)) is not None:
    entry.write(workdir, dataclasses.replace(found, state=PRUNED))


def _told(knobs: dict[str, Any]) -> str:
  chosen = {name: value for name, value in knobs["trial"].items() if name != "number"}
  return "  ".join(f"{name}={_short(value)}" for name, value in chosen.items())


def _short(value: Any) -> str:
  return f"{value:.4g}" if isinstance(value, float) else str(value)
