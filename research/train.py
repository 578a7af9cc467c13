"""The one loop: batches in, parameters out; it evaluates, samples, logs and saves on the way."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

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
  warm_start,
  watchdog,
)
from research.data import pipeline
from research.experiment import BOOKKEEPING, Experiment
from research.fit import Finished, score_baseline
from research.looks import Looks
from research.preemption import interruptions
from research.skipped import FOLDER, Skipped


def train(experiment: Experiment, workdir: Path) -> Finished:
  """Runs an experiment in `workdir`, from its newest checkpoint if it has one.

  A SIGTERM or SIGINT ends the run with a checkpoint at the step that it had reached. All
  processes of a job call this, and all return the same.

  Raises:
    UserError: the parts of the experiment do not go together, or the folder cannot be used.
    IntegrityError: no checkpoint is whole, or none can be written.
    NumericsError: too many steps in a row could not be taken (`Experiment.guard`).
  """
  with interruptions() as interrupted, watchdog.watched(experiment.patience):

    def stopping() -> bool:
      watchdog.alive()
      return interrupted()

    return _train(experiment, Path(workdir), stopping)


def _train(experiment: Experiment, workdir: Path, stopping: Callable[[], bool]) -> Finished:
  memory.keep()
  distributed.make_shared(workdir)
  with distributed.together("preparing the data and the model"):
    experiment, program, sources = _prepared(experiment)
    sizes = {
      name: item.batch_size or experiment.batch_size
      for name, item in experiment.evals.items()
      if name in program.measures
    }
    rows_of = {
      size: feed.rows(program.layout, size) for size in (experiment.batch_size, *sizes.values())
    }
    batch = update.abstract_batch(experiment)
    work, tokens = flops.of_training(experiment, batch), update.tokens_of(batch)
    about = _about(experiment, sources["train"])
  save_every = experiment.save_every or max(1, experiment.steps // 10)
  order = {
    "batch_size": experiment.batch_size,
    "seed": experiment.seed,
    "rows": rows_of[experiment.batch_size],
  }

  def totals(name: str, params: Any) -> metrics.Metrics | None:
    item, params = experiment.evals[name], program.plain(params)
    if name not in program.measures:  # it looks at texts
      return item.total(experiment.model, params, experiment.data, stopping)
    size = sizes[name]
    return evaluate.total(
      program.measures[name],
      params,
      sources[item.split],
      size,
      batches=item.batches,
      rows=rows_of[size],
      place=program.place,
      stopping=stopping,
    )

  def first() -> tuple[int, update.TrainState]:
    state, origin = warm_start.first(experiment.init_from, program)
    checkpoints.about.update(origin)
    return 0, state

  def write(params: Any) -> list[tuple[str, str]] | None:
    params = program.plain(params)
    return experiment.samples.write(experiment.model, params, vocabulary, stopping)

  checkpoints = checkpoint.Checkpoints(workdir / "checkpoints", experiment.keep, about)
  if stopping():  # nothing was begun that would have to be saved
    if distributed.first():
      print("stopped before it went on; the same command does", file=sys.stderr)
    return Finished(checkpoints.latest() or 0, {}, complete=False)
  start, state = checkpoints.restore_newest(program.abstract) or first()
  if start:  # what the arrays came from stays, wherever that is now
    checkpoints.about.update(warm_start.origin(checkpoints.stored(start).about))
  with (
    checkpoints,
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
    for source in sources.values():
      if note := getattr(source, "note", ""):
        journal.note(note)
    for told in warm_start.origin(checkpoints.about).values() if not start else ():
      journal.note(f"starts from {told}")
    if hasattr(experiment.data, "prepare"):
      vocabulary = _words_and_baselines(experiment, workdir, journal, fresh=not start)
    looks = Looks(experiment, totals, write, journal, checkpoints.scored)
    skipped = Skipped(
      experiment.guard,
      workdir / FOLDER,
      journal.note,
      begun=state.guard,
      last=experiment.steps,
    )

    stopped = bool(start) and not looks.after_restart(start, state.best_params)
    step, passed = start, int(state.guard.passed)
    batches = pipeline.batches(sources["train"], start=step + passed, **order)
    while step < experiment.steps and not stopped and not stopping():
      waiting = time.perf_counter()
      rows = next(batches)
      waiting = time.perf_counter() - waiting
      examples = partial(pipeline.examples, sources["train"], step=step + passed, **order)
      state, measured = program.step(state, program.place(rows, experiment.batch_size))
      step += 1
      journal.step(step, measured, tokens=tokens, flops=work, data_wait=waiting)
      if skipped.too_many(step, measured, rows, examples):
        with journal.pause("rollback"):
          checkpoints.wait()
          before = state.guard
          back, state = checkpoints.restore_newest(program.abstract) or first()
          passed += step - back
          state = _gone_back(state, passed=passed, rollbacks=int(before.rollbacks) + 1)
        journal.back(back)
        journal.note(f"back at step {back}; the batches of the {step - back} steps are passed over")
        step = back
        batches = pipeline.batches(sources["train"], start=step + passed, **order)
        continue
      if step % save_every == 0 or step == experiment.steps or checkpoints.owed():
        with journal.pause("save"):
          checkpoints.save(step, state)
      stopped = not looks.after(step, state.best_params)
    skipped.settle()
    complete = step == experiment.steps and not stopped
    if not complete:
      if not checkpoints.has(step):
        with journal.pause("save"):
          checkpoints.save(step, state)
      journal.note(f"stopped at step {step} with a checkpoint; the same command goes on from there")
  return Finished(step, looks.measured, complete)


def _prepared(experiment: Experiment) -> tuple[Experiment, update.Program, dict[str, Any]]:
  """The experiment, in microbatches that fit; its program; a source for each split."""
  evals = [item for item in experiment.evals.values() if hasattr(item, "measure")]
  splits = {"train", *(item.split for item in evals)}
  sources = {split: experiment.data.source(split) for split in splits}
  batch = update.abstract_batch(experiment)
  mesh = experiment.sharding.make_mesh()
  experiment = microbatches.fewest(
    experiment,
    lambda cut: update.compiled_step(update.build(cut, mesh, batch), batch),
    rows=experiment.sharding.layout(mesh).parts("B"),
  )
  return experiment, update.build(experiment, mesh, batch), sources


def _words_and_baselines(experiment: Experiment, workdir: Path, journal: log.Log, fresh: bool):
  """Saves the vocabulary, which it returns, and where the run begins, fits the baselines."""
  prepared = experiment.data.prepare()
  with distributed.together("saving the vocabulary and fitting the baselines"):
    if distributed.first():
      prepared.vocabulary.save(workdir / "vocabulary")
      if getattr(prepared, "source_vocabulary", prepared.vocabulary) is not prepared.vocabulary:
        prepared.source_vocabulary.save(workdir / "source_vocabulary")
      if fresh and experiment.init_from is not None:
        warm_start.same_words(experiment.init_from, workdir)
      if hasattr(prepared, "labels"):
        prepared.labels.save(workdir / "labels.json")
      for name, baseline in experiment.baselines.items() if fresh else ():
        with journal.pause("baselines"):
          measured = score_baseline(baseline, prepared)
        journal.baseline(name, metrics.means(measured), metrics.standard_errors(measured))
  return prepared.vocabulary


def describe_devices() -> str:
  """For example "1 cpu device", or "8 TPU v5p devices"."""
  count, kind, processes = jax.device_count(), jax.devices()[0].device_kind, jax.process_count()
  where = f" in {processes} processes" if processes > 1 else ""
  return f"{count} {kind} device{'s' if count > 1 else ''}{where}"


def _about(experiment: Experiment, source: pipeline.Source) -> dict[str, str]:
  """What the arrays of a checkpoint come from; see `Checkpoints`."""
  description = {
    path: text
    for path, text in experiment.describe().items()
    if path.split(".")[0] not in BOOKKEEPING
  }
  return {
    "experiment": hashlib.blake2b(repr(description).encode(), digest_size=8).hexdigest(),
    "data": pipeline.fingerprint(source),
    **{
      name: importlib.metadata.version(name)
      for name in ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
    },
  }


def _gone_back(state: update.TrainState, **counts: int) -> update.TrainState:
  """An earlier state, which knows how often the run went back, and past how many batches."""
  guard = dataclasses.replace(
    state.guard,
    skipped=jax.device_put(np.int32(0), state.guard.skipped.sharding),
    **{
      name: jax.device_put(np.int32(count), getattr(state.guard, name).sharding)
      for name, count in counts.items()
    },
  )
  return dataclasses.replace(state, guard=guard)
