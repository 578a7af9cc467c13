"""The state of a run before a step and the step's batch, out of its checkpoints and arithmetic.

A batch is a function of (seed, step + passed), so nothing of it was kept: it is read again. The
state comes from the newest checkpoint before the step; the steps between are taken again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research import checkpoint, fitting, metrics, record, secrets, update, warm_start
from research.data import pipeline
from research.errors import UserError
from research.experiment import BOOKKEEPING, Experiment
from research.log import lines
from research.log.progress import counted


@dataclasses.dataclass
class Recalled:
  """A step that is about to be taken again.

  Attributes:
    experiment, program: of the run, on the devices that are here.
    state: before the step; `again` donates it.
    rows: the batch.
    epochs, numbers: (B,) which examples they are.
    step: the update, from 1.
    restored: the step of the checkpoint that was read; 0 where the run was begun anew.
    passed: batches that the run had passed over before it took the step.
  """

  experiment: Experiment
  program: update.Program
  state: update.TrainState
  rows: pipeline.Batch
  epochs: np.ndarray
  numbers: np.ndarray
  step: int
  restored: int
  passed: int

  def again(self) -> dict[str, float]:
    """Takes the step, with the run's own program: the means that its log has. Once."""
    _, measured = self.program.step(self.state, self.program.place(self.rows))
    return metrics.means(measured)


def recall(workdir: Path, step: int, most: int) -> Recalled:
  """Comes to stand before update `step` of a run; nothing in its folder is changed.

  Args:
    workdir: of the run.
    step: the update, from 1.
    most: updates that may be taken again to get there.

  Raises:
    UserError: no run, another experiment or other data by now, a step that is too far from the
      checkpoints that are left, or one between two of them that do not tell which batches it had.
    IntegrityError: the checkpoint is damaged.
  """
  experiment = _experiment(workdir)
  if not 1 <= step <= experiment.steps:
    raise UserError(f"--step {step}: the steps of {workdir} are 1 to {experiment.steps}.")
  source = experiment.data.source("train")
  about = {"data": pipeline.fingerprint(source)}
  with checkpoint.Checkpoints(workdir / checkpoint.FOLDER, about=about) as kept:
    saved = kept.steps.all()
    before = max((number for number in saved if number < step), default=0)
    if step - 1 - before > most:
      raise UserError(
        f"--step {step}: the newest checkpoint before it is of step {before}, so that "
        f"{step - 1 - before} steps were to be taken again; that is more than --most {most}. The "
        f"run has checkpoints of {', '.join(map(str, saved)) or 'no step'}."
      )
    experiment, program = fitting.program(experiment)
    if before:
      state = kept.restore(program.abstract, before)
    else:
      state, _ = warm_start.first(experiment.init_from, program)
    passed = _passed(kept, program, state, step, before, experiment)
  order = {"batch_size": experiment.batch_size, "seed": experiment.seed}
  batches = pipeline.batches(source, start=before + passed, **order)
  for _ in counted("step", step - 1 - before):
    state, _ = program.step(state, program.place(next(batches)))
    jax.block_until_ready(state.step)
  epochs, numbers = pipeline.examples(source, step=step - 1 + passed, **order)
  return Recalled(experiment, program, state, next(batches), epochs, numbers, step, before, passed)


def recorded(workdir: Path, step: int) -> dict[str, float] | None:
  """What metrics.jsonl has of the step; None where it has no line of it."""
  found, _ = lines.read(workdir / "metrics.jsonl")
  found = [line for line in found if (line.get("split"), line.get("step")) == ("train", step)]
  return {name: lines.number(value) for name, value in found[-1].items()} if found else None


def _experiment(workdir: Path) -> Experiment:
  """That of the run, which must be what it was in all that is computed."""
  experiment, kept = record.open_run(workdir)
  if experiment.optimizer is None:
    raise UserError(f"{workdir} counted its model: it has no steps to be replayed.")
  changed = [
    text
    for text in record.differences(
      secrets.describe(kept["description"]), secrets.describe(experiment.describe())
    )
    if text.split(":")[0].split(".")[0] not in BOOKKEEPING
  ]
  if changed:
    raise UserError(
      f"{kept['file']} has changed since {workdir} was run: {'; '.join(changed[:3])}; change it "
      "back, for a step is replayed as it was."
    )
  return experiment


def _passed(
  kept: checkpoint.Checkpoints,
  program: update.Program,
  state: Any,
  step: int,
  before: int,
  experiment: Experiment,
) -> int:
  """Batches that the run had passed over when it took the step for good.

  It goes back to the newest checkpoint only, so between two that were saved one after the other the
  count is that of the later one, where there is a later one. Where checkpoints between them are
  gone, it may have gone back to one of those, and the steps before it had passed over fewer.

  Raises:
    UserError: the count grew between two checkpoints that are further apart.
  """
  mine = int(state.guard.passed)
  later = min((number for number in kept.steps.all() if number >= step), default=None)
  if later is None:
    return mine
  passed = int(kept.restore(program.abstract.guard, later, under="guard").passed)
  apart = experiment.save_every or max(1, experiment.steps // 10)
  if passed != mine and later - before > apart:
    raise UserError(
      f"--step {step}: between its checkpoints of steps {before} and {later} the run went back and "
      f"passed over {passed - mine} batches; which steps it had taken before that is not known any "
      "more. Choose a step closer before a checkpoint that is left."
    )
  return passed
