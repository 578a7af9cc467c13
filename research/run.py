"""A run while it is trained: where it stands, and what its folder gets on the way."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research import checkpoint, flops, log, update, warm_start
from research.data import pipeline
from research.errors import NumericsError
from research.experiment import Experiment
from research.fit import Finished
from research.health import Health, Told
from research.looks import Looks
from research.skipped import FOLDER, Skipped


@dataclasses.dataclass(frozen=True)
class Work:
  """What one update of a run is, for its log: tokens, and floating-point operations or None."""

  tokens: int
  flops: float | None


class Run:
  """One run in its folder; several of them may share a program and its steps.

  Attributes:
    step: updates done.
    passed: batches that were passed over when it went back: its data is so far ahead.
    begun: the step that it was resumed at, 0 for a fresh one.
    journal: its log, once it is `opened`.
  """

  def __init__(
    self, experiment: Experiment, workdir: Path, program: update.Program, about: dict[str, str]
  ):
    """Reads nothing yet.

    Args:
      experiment: to run.
      workdir: its folder.
      program: with this run's seed.
      about: what the arrays of its checkpoints come from; see `Checkpoints`.
    """
    self.experiment, self.workdir, self._program = experiment, workdir, program
    self.checkpoints = checkpoint.Checkpoints(workdir / "checkpoints", experiment.keep, about)
    self.step = self.passed = self.begun = 0
    self.journal: log.Log | None = None
    self._save_every = experiment.save_every or max(1, experiment.steps // 10)
    self._stopped, self._error = False, None
    self._measured: dict[str, dict[str, float]] = {}

  @property
  def going(self) -> bool:
    """Whether it has steps to take."""
    return self.step < self.experiment.steps and not self._stopped and self._error is None

  @property
  def place(self) -> tuple[int, int]:
    """The seed and the number of its next batch."""
    return self.experiment.seed, self.step + self.passed

  def state(self) -> update.TrainState:
    """That of the newest checkpoint, or the first one; the run stands there then."""
    self.begun, state = self._newest() or self._first()
    self.step, self.passed = self.begun, int(state.guard.passed)
    if self.begun:  # what the arrays came from stays, wherever that is now
      about = self.checkpoints.stored(self.begun).about
      self.checkpoints.about.update(warm_start.origin(about))
    self._skipped = Skipped(
      self.experiment.guard,
      self.workdir / FOLDER,
      self._say_skipped,
      begun=state.guard,
      last=self.experiment.steps,
      step=self.begun,
    )
    return state

  @contextlib.contextmanager
  def opened(
    self, device: str, work: Work, beside: log.Log | None, *, named: bool
  ) -> Iterator[Run]:
    """Its log is open inside, its checkpoints are written at the end.

    Args:
      device: what it runs on, in words.
      work: of an update.
      beside: the log of another run of the same program, None for the first.
      named: whether what it tells begins with its name.
    """
    experiment, self._work = self.experiment, work
    parameters = sum(x.size for x in jax.tree.leaves(self._program.abstract.params))
    with (
      self.checkpoints,
      log.Log(
        self.workdir,
        steps=experiment.steps,
        start=self.begun,
        every=experiment.log_every,
        peak_flops=flops.peak(getattr(experiment.model, "dtype", "float32")),
        beside=beside,
        told_as=experiment.name if named else "",
      ) as self.journal,
    ):
      self.journal.model(parameters=parameters, device=device, flops_per_step=work.flops)
      who = "" if named else f"{experiment.name}: "
      self.journal.note(f"{who}{parameters:,} parameters, {device}")
      if self.begun:
        self.journal.note(f"resumed at step {self.begun} of {experiment.steps}")
      yield self

  def origins(self) -> Iterator[str]:
    """The run that a fresh one starts from, in words."""
    if not self.begun:
      yield from warm_start.origin(self.checkpoints.about).values()

  def look(self, totals: Callable[..., Any], write: Callable[..., Any], params: Any) -> None:
    """Binds what measures (see `Looks`); a resumed run does what was left undone."""
    self._looks = Looks(self.experiment, totals, write, self.journal, self.checkpoints.scored)
    self._measured = self._looks.measured
    self._told = Told(self.workdir, self.journal.note, self.begun)
    self._health = Health(self.experiment, self._program, self._told, start=self.begun)
    self._stopped = bool(self.begun) and not self._looks.after_restart(self.begun, params)

  def took(
    self,
    measured: Any,
    rows: pipeline.Batch,
    examples: Callable[[], Any],
    state: Callable[[], update.TrainState],
    waited: float,
  ) -> update.TrainState | None:
    """Takes in a step that was just dispatched: tells, saves, evaluates.

    Args:
      measured: its Metrics.
      rows: of its batch, that this process read.
      examples: () -> their epochs and numbers.
      state: () -> that after the step.
      waited: seconds, for the batch.

    Returns:
      The state that the run goes back to, None where it goes on.
    """
    self.step += 1
    self.journal.step(
      self.step, measured, tokens=self._work.tokens, flops=self._work.flops, data_wait=waited
    )
    try:
      if self._skipped.too_many(self.step, measured, rows, examples):
        return self._gone_back(state().guard)
    except NumericsError as error:
      self._error = error
      return None
    self._health.step(self.step, measured, rows, lambda: state().params)
    last = self.step == self.experiment.steps
    if self.step % self._save_every == 0 or last or self.checkpoints.owed():
      self._save(state())
    if self._looks.due(self.step):
      self._stopped = not self._looks.after(self.step, state().best_params)
    return None

  def finish(self, state: Callable[[], update.TrainState]) -> None:
    """The run takes no more steps; where it was stopped, it is saved."""
    self._skipped.settle()
    self._health.settle()
    if self._error is None and not self._complete:
      if not self.checkpoints.has(self.step):
        self._save(state())
      self.journal.note(
        f"stopped at step {self.step} with a checkpoint; the same command goes on from there"
      )

  def finished(self) -> Finished:
    """How it ended, or how it stands where it was not begun."""
    step = self.step or self.checkpoints.latest() or 0
    return Finished(step, self._measured, self._complete, self._error)

  @property
  def _complete(self) -> bool:
    at_end = self.step == self.experiment.steps
    return at_end and not self._stopped and self._error is None

  def _newest(self) -> tuple[int, update.TrainState] | None:
    return self.checkpoints.restore_newest(self._program.abstract)

  def _first(self) -> tuple[int, update.TrainState]:
    state, origin = warm_start.first(self.experiment.init_from, self._program)
    self.checkpoints.about.update(origin)
    return 0, state

  def _save(self, state: update.TrainState) -> None:
    with self.journal.pause("save"):
      self.checkpoints.save(self.step, state)

  def _say_skipped(self, line: str) -> None:
    self._say("skipped", line)

  def _say(self, kind: str, line: str) -> None:
    """Prints what names its step itself, and writes it down."""
    self.journal.note(line)
    self._told.keep(None, kind, line)

  def _gone_back(self, before: Any) -> update.TrainState:
    """An earlier state, which knows how often the run went back, and past how many batches."""
    with self.journal.pause("rollback"):
      self.checkpoints.wait()
      back, state = self._newest() or self._first()
      steps = self.step - back
      self.passed += steps
      counts = {"passed": self.passed, "rollbacks": int(before.rollbacks) + 1, "skipped": 0}
      guard = dataclasses.replace(
        state.guard,
        **{
          name: jax.device_put(np.int32(count), getattr(state.guard, name).sharding)
          for name, count in counts.items()
        },
      )
    self.journal.back(back)
    self._health.back()
    self._say("back", f"back at step {back}; the batches of the {steps} steps are passed over")
    self.step = back
    return dataclasses.replace(state, guard=guard)
