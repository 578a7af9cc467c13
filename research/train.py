"""The one loop: batches in, parameters out; it evaluates, samples, logs and saves on the way."""

from __future__ import annotations

import time
from pathlib import Path

import jax

from research import (
  checkpoint,
  distributed,
  evaluate,
  feed,
  flops,
  log,
  memory,
  metrics,
  microbatches,
  update,
)
from research.data import pipeline
from research.errors import NumericsError
from research.experiment import Experiment
from research.fit import Finished, fitted, score
from research.preemption import interruptions

SKIPS = 10  # steps in a row without finite numbers, after which a run has gone astray


def train(experiment: Experiment, workdir: Path) -> Finished:
  """Runs an experiment in `workdir`, from its newest checkpoint if it has one.

  A SIGTERM or SIGINT ends the run with a checkpoint at the step that it had reached. All
  processes of a job call this, and all return the same.

  Raises:
    UserError: the parts of the experiment do not go together, or the folder cannot be used.
    IntegrityError: no checkpoint is whole, or none can be written.
    NumericsError: the loss or the gradient was not finite in `SKIPS` steps in a row.
  """
  workdir = Path(workdir)
  memory.keep()
  first = distributed.first()
  distributed.make_shared(workdir)
  with distributed.together("preparing the data and the model"):
    splits = {"train", *(item.split for item in experiment.evals.values())}
    sources = {split: experiment.data.source(split) for split in splits}
    batch = update.abstract_batch(experiment)
    mesh = experiment.sharding.make_mesh()
    experiment = microbatches.fewest(
      experiment,
      lambda cut: update.compiled_step(update.build(cut, mesh, batch), batch),
      rows=experiment.sharding.layout(mesh).parts("B"),
    )
    program = update.build(experiment, mesh, batch)
    sizes = {
      name: item.batch_size or experiment.batch_size for name, item in experiment.evals.items()
    }
    rows_of = {
      size: feed.rows(program.layout, size) for size in (experiment.batch_size, *sizes.values())
    }
    work = flops.of_training(experiment, batch)
    tokens = update.tokens_of(batch)
  save_every = experiment.save_every or max(1, experiment.steps // 10)

  checkpoints = checkpoint.Checkpoints(workdir / "checkpoints", keep=experiment.keep)
  start, state = checkpoints.restore_newest(program.abstract) or (0, program.init())
  evaluations: dict[str, dict[str, float]] = {}

  def evaluate_all(step):
    for name, item in experiment.evals.items():
      if _due(step, item.every, experiment.steps):
        with journal.pause("evaluate"):
          measured = evaluate.total(
            program.measures[name],
            state.best_params,
            sources[item.split],
            sizes[name],
            batches=item.batches,
            rows=rows_of[sizes[name]],
            place=program.place,
          )
        evaluations[name] = metrics.means(measured)
        journal.evaluation(step, name, evaluations[name], metrics.standard_errors(measured))

  with (
    checkpoints,
    interruptions() as stopping,
    log.Log(
      workdir,
      steps=experiment.steps,
      start=start,
      every=experiment.log_every,
      peak_flops=flops.peak(getattr(experiment.model, "dtype", "float32")),
    ) as journal,
  ):
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    journal.model(parameters=parameters, device=describe_devices(), flops_per_step=work)
    journal.note(f"{experiment.name}: {parameters:,} parameters, {describe_devices()}")
    if start:
      journal.note(f"resumed at step {start} of {experiment.steps}")
    if experiment.samples is not None or experiment.baselines:
      prepared = experiment.data.prepare()
      with distributed.together("saving the vocabulary and fitting the baselines"):
        if first:
          prepared.vocabulary.save(workdir / "vocabulary")
        for name, baseline in experiment.baselines.items() if first and not start else ():
          with journal.pause("baselines"):
            measured = score(fitted(baseline, prepared), prepared, "heldout")
          journal.baseline(name, metrics.means(measured), metrics.standard_errors(measured))

    batches = pipeline.batches(
      sources["train"],
      experiment.batch_size,
      seed=experiment.seed,
      start=start,
      rows=rows_of[experiment.batch_size],
    )
    step, skips, skipped = start, 0, None
    while step < experiment.steps and not stopping(step):
      waiting = time.perf_counter()
      rows = next(batches)
      waiting = time.perf_counter() - waiting
      state, measured = program.step(state, program.place(rows, experiment.batch_size))
      step += 1
      journal.step(step, measured, tokens=tokens, flops=work, data_wait=waiting)
      # Like the journal, it reads what the step before left, for which the device need not wait.
      skips = skips + 1 if skipped is not None and skipped.total > 0 else 0
      skipped = measured["skipped"]
      if skips == SKIPS:
        raise NumericsError(
          f"the loss or its gradient was not finite in the {SKIPS} steps up to {step - 1}; the "
          "parameters are those of before. Lower the learning rate, clip the gradient, or look at "
          "the data; the same command goes on from the last checkpoint."
        )
      if step % save_every == 0 or step == experiment.steps or checkpoints.owed():
        with journal.pause("save"):
          checkpoints.save(step, state)
      evaluate_all(step)
      samples = experiment.samples
      if samples is not None and _due(step, samples.every, experiment.steps):
        with journal.pause("sample"):
          texts = samples.write(experiment.model, state.best_params, prepared.vocabulary)
        journal.text(step, "samples", texts)
    if step < experiment.steps:
      if checkpoints.latest() != step:
        with journal.pause("save"):
          checkpoints.save(step, state)
      journal.note(f"stopped at step {step} with a checkpoint; the same command goes on from there")
    elif start == step:  # all was done before: say again what it came to
      evaluate_all(step)
  return Finished(step, evaluations, complete=step >= experiment.steps)


def describe_devices() -> str:
  """For example "1 cpu device", or "8 TPU v5p devices"."""
  count, kind, processes = jax.device_count(), jax.devices()[0].device_kind, jax.process_count()
  where = f" in {processes} processes" if processes > 1 else ""
  return f"{count} {kind} device{'s' if count > 1 else ''}{where}"


def _due(step: int, every: int | None, steps: int) -> bool:
  return step == steps or step % (every or max(1, steps // 10)) == 0
