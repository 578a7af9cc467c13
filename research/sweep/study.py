"""The trials of a search, kept by Optuna in a file or a database that all who search share.

A trial belongs to whoever holds its lock. Who was killed holds none any more, and the trial, which
Optuna still counts as running, is taken up by the next who looks: its run goes on from its
checkpoint, under its own number, and is told once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import socket
import time
import warnings
from io import FileIO
from pathlib import Path
from typing import Any

from research import lock, search, secrets
from research.errors import RunError, UserError, nearest, reason
from research.experiment import Experiment
from research.load import Recipe
from research.retention import Keep
from research.search import Search
from research.steps import Steps
from research.sweep import choosing
from research.sweep.choosing import optuna

LOCKS = "search"  # a folder in that of a search
TRIES = 3  # starts in a row that may bring no newer checkpoint
BEAT, SILENT = 30.0, 180.0  # seconds between signs of life; who gives none elsewhere is gone
State = optuna.trial.TrialState


@dataclasses.dataclass
class Held:
  """A trial that is ours until it is `released`.

  Attributes:
    number: from 0.
    recipe: that makes its run.
    experiment: its run.
    workdir: of the run.
  """

  number: int
  recipe: Recipe
  experiment: Experiment
  workdir: Path
  _trial: Any
  _lock: FileIO
  _beaten: float = -math.inf

  def report(self, step: int, value: float) -> bool:
    """Tells what the run had at a step, once; says whether it is to end there."""
    if step in self._trial.storage.get_trial(self._trial._trial_id).intermediate_values:
      return False
    self._trial.report(value, step)
    return self._trial.should_prune()

  def alive(self) -> None:
    """Tells now and then that somebody is at work on it."""
    if time.monotonic() - self._beaten > BEAT:
      self._beaten = time.monotonic()
      self._trial.set_user_attr("alive", time.time())

  def stopped(self) -> None:
    """Its run was stopped on purpose: that is no start that came to nothing."""
    self._trial.set_user_attr("idle", -1)

  def release(self) -> None:
    self._lock.close()


class Study:
  """The trials of one search; their numbers are 0, 1, ... up to how many there are to be.

  Attributes:
    trials: how many there are to be; of a grid no more than it has.
  """

  def __init__(
    self, wanted: Search, recipe: Recipe, workdir: Path, trials: int, storage: str | None
  ):
    """Opens it, or begins it.

    Args:
      wanted: what is searched for.
      recipe: of the function that takes a trial, without one.
      workdir: of the runs.
      trials: how many there are to be.
      storage: the URL of a database; None for a file in `workdir`.

    Raises:
      UserError: the storage cannot be opened, or holds another search under this name.
    """
    self.search, self.recipe, self.workdir, self.trials = wanted, recipe, workdir, trials
    # Locks tell who is at work of those alone that search in this folder.
    self._here = f"{socket.gethostname()}:{workdir.resolve()}"
    self._locks: dict[int, FileIO] = {}  # by trial; those that are open are of our own trials
    self._space: dict[str, list[Any]] = {}
    if wanted.sampler == "grid":
      grid = search.Grid()
      self._made(grid)
      self._space = grid.space
      self.trials = min(trials, math.prod(len(values) for values in grid.space.values()))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", module="optuna")
    self._name = f"{recipe.path.stem}:{recipe.function}"
    words = {**recipe.knobs, **recipe.overrides}
    words = {name: repr(secrets.hidden(name, value)) for name, value in words.items()}
    what = {"metric": wanted.metric, "lower": wanted.lower, "words": words}
    try:
      (workdir / LOCKS).mkdir(parents=True, exist_ok=True)
      self._storage = choosing.storage(workdir, storage)
      with self._turn():
        study = self._study(0)
        before = study.user_attrs.get("search", what)
        study.set_user_attr("search", before)
    except Exception as error:  # of whatever database it is
      raise UserError(f"{storage or workdir} cannot be opened: {reason(error)}.") from error
    if before != what:
      raise UserError(
        f"{storage or workdir} holds another search of {self._name}, {before}; this one is {what}. "
        "Give another --workdir, or --storage."
      )

  def take(self) -> Held | None:
    """A trial to run: one that was left, or a new one; None where there is none to be had now.

    Raises:
      UserError: the function fails, or does not return one experiment.
    """
    with self._turn():
      known = self._study(0).get_trials(deepcopy=False)
      for frozen in known:
        if frozen.state == State.RUNNING and (held := self._taken_up(frozen)):
          return held
      if len(known) >= self.trials:
        return None
      study = self._study(len(known))
      trial = study.ask()
      if trial.number >= self.trials:  # others, of another folder, were faster
        self._tell(trial.number, State.FAIL)
        return None
      if trial.number > len(known):  # what is drawn for it hangs on its number alone
        trial = optuna.trial.Trial(self._study(trial.number), trial._trial_id)
      return self._held(trial, lock.take(self._lock(trial.number)))

  def done(self, held: Held, value: float) -> None:
    """Its run is complete and came to `value`."""
    self._tell(held.number, State.COMPLETE, value)

  def pruned(self, held: Held) -> None:
    """Its run was ended early, or lost its numbers: near it there is nothing to be found."""
    self._tell(held.number, State.PRUNED)

  def failed(self, held: Held) -> None:
    """Its run cannot be made."""
    self._tell(held.number, State.FAIL)

  def all(self) -> list[Any]:
    """Optuna's record of every trial: the complete ones first, the best of them at the front."""
    order = (State.COMPLETE, State.PRUNED, State.RUNNING, State.FAIL, State.WAITING)
    sign = 1 if self.search.lower else -1
    found = [x for x in self._study(0).get_trials(deepcopy=False) if x.number < self.trials]
    return sorted(found, key=lambda x: (order.index(x.state), sign * (x.value or 0.0), x.number))

  def of(self, number: int, params: dict[str, Any]) -> Recipe:
    """The recipe of a trial, by which its run can be made again."""
    trial = search.Written(number=number, **params)
    return dataclasses.replace(self.recipe, knobs={**self.recipe.knobs, search.TRIAL: trial})

  def _taken_up(self, frozen: Any) -> Held | None:
    """A trial that has begun, where nobody is at work on it any more."""
    ours = self._locks.get(frozen.number)
    if ours is not None and not ours.closed:  # on a file system without locks nothing else tells
      return None
    told = frozen.user_attrs
    workdir = self.workdir / told.get("name", f"trial_{frozen.number}")
    elsewhere = told.get("host", self._here) != self._here
    if elsewhere and time.time() - told.get("alive", 0.0) < SILENT:
      return None
    if lock.holder(workdir) or (held := lock.take(self._lock(frozen.number), lock.NOW)) is None:
      return None
    if self._storage.get_trial(frozen._trial_id).state != State.RUNNING:  # it was told meanwhile
      held.close()
      return None
    trial = optuna.trial.Trial(self._study(frozen.number), frozen._trial_id)
    newest = max(Steps(workdir / "checkpoints", Keep()).all(), default=0)
    idle = 0 if newest > told.get("newest", 0) else told.get("idle", 0) + 1
    if idle >= TRIES:
      self._tell(frozen.number, State.FAIL)
      held.close()
      return None
    for name, value in {"newest": newest, "idle": idle}.items():
      trial.set_user_attr(name, value)
    return self._held(trial, held)

  def _held(self, trial: Any, held: FileIO) -> Held:
    """Has the function choose, where it has not, and make the experiment."""
    try:
      experiment = self._made(trial)
    except RunError:
      self._tell(trial.number, State.FAIL)
      held.close()
      raise
    for name, value in {"host": self._here, "name": experiment.name}.items():
      trial.set_user_attr(name, value)
    recipe, workdir = self.of(trial.number, trial.params), self.workdir / experiment.name
    self._locks[trial.number] = held
    found = Held(trial.number, recipe, experiment, workdir, trial, held)
    found.alive()
    return found

  def _made(self, trial: Any) -> Experiment:
    knobs = {**self.recipe.knobs, search.TRIAL: trial}
    made = dataclasses.replace(self.recipe, knobs=knobs).experiment()
    name = self.search.evaluation[0]
    if name not in made.evals:
      raise UserError(
        f"Search(metric={self.search.metric!r}): {made.name} has no evaluation {name!r}."
        f"{nearest(name, made.evals)} It has {', '.join(made.evals) or 'none'}."
      )
    return made

  def _study(self, number: int) -> Any:
    """Optuna's study, whose sampler draws for trial `number` what it would in any process."""
    return optuna.create_study(
      storage=self._storage,
      study_name=self._name,
      direction="minimize" if self.search.lower else "maximize",
      load_if_exists=True,
      sampler=choosing.sampler(self.search, self._space, self.search.seed + number),
      pruner=choosing.pruner(self.search),
    )

  def _tell(self, number: int, state: Any, value: float | None = None) -> None:
    with contextlib.suppress(RuntimeError):  # a grid that is done says so when the trial is told
      self._study(number).tell(number, value, state=state)

  def _lock(self, number: int) -> Path:
    return self.workdir / LOCKS / f"{number}.lock"

  def _turn(self) -> FileIO:
    """Trials are chosen one after another, each knowing of those before it."""
    return lock.take(self.workdir / LOCKS / "lock")
