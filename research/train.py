"""The one loop: batches in, parameters out; it evaluates, samples, logs and saves on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research import (
  distributed,
  evaluate,
  feed,
  flops,
  log,
  memory,
  metrics,
  microbatches,
  side_by_side,
  update,
  warm_start,
  watchdog,
)
from research.data import pipeline
from research.experiment import BOOKKEEPING, Experiment
from research.fit import Finished, score_baseline
from research.preemption import interruptions
from research.run import Run, Work


def train(experiment: Experiment, workdir: Path) -> Finished:
  """Runs an experiment in `workdir`, from its newest checkpoint if it has one.

  A SIGTERM or SIGINT ends the run with a checkpoint at the step that it had reached. All
  processes of a job call this, and all return the same.

  Raises:
    UserError: the parts of the experiment do not go together, or the folder cannot be used.
    IntegrityError: no checkpoint is whole, or none can be written.
    NumericsError: too many steps in a row could not be taken (`Experiment.guard`).
  """
  finished = train_together({Path(workdir): experiment})[0]
  if finished.error is not None:
    raise finished.error
  return finished


def train_together(folders: Mapping[Path, Experiment]) -> list[Finished]:
  """Runs experiments that `Trials` may hold in one program, each in its folder, as `train` would.

  One whose numbers are not finite ends by itself, with `error` set, and the others go on.

  Raises:
    UserError, IntegrityError: as `train`.
  """
  patience = next(iter(folders.values())).patience
  with interruptions() as interrupted, watchdog.watched(patience):

    def stopping() -> bool:
      watchdog.alive()
      return interrupted()

    return _train(folders, stopping)


def _train(folders: Mapping[Path, Experiment], stopping: Callable[[], bool]) -> list[Finished]:
  memory.keep()
  for workdir in folders:
    distributed.make_shared(workdir)
  with distributed.together("preparing the data and the model"):
    experiments, program, states, sources = _prepared(list(folders.values()))
    experiment = experiments[0]  # what the others share with it, is meant by it
    size = experiment.batch_size
    sizes = {
      name: item.batch_size or size
      for name, item in experiment.evals.items()
      if name in program.measures
    }
    rows_of = {size: feed.rows(program.layout, size) for size in sizes.values()}
    batch = update.abstract_batch(experiment)
    work = Work(update.tokens_of(batch), flops.of_training(experiment, batch))
    about = [_about(item, sources["train"]) for item in experiments]
  order = {"batch_size": size, "rows": feed.rows(states.layout, size)}

  def totals(name: str, params: Any) -> metrics.Metrics | None:
    item, params = experiment.evals[name], program.plain(params)
    if name not in program.measures:  # it looks at texts
      return item.total(experiment.model, params, experiment.data, stopping)
    return evaluate.total(
      program.measures[name],
      params,
      sources[item.split],
      sizes[name],
      batches=item.batches,
      rows=rows_of[sizes[name]],
      place=program.place,
      stopping=stopping,
    )

  def write(params: Any) -> list[tuple[str, str]] | None:
    params = program.plain(params)
    return experiment.samples.write(experiment.model, params, vocabulary, stopping)

  runs = [
    Run(item, Path(workdir), program.seeded(item.seed), origin)
    for workdir, item, origin in zip(folders, experiments, about, strict=True)
  ]
  if stopping():  # nothing was begun that would have to be saved
    if distributed.first():
      print("stopped before it went on; the same command does", file=sys.stderr)
    return [run.finished() for run in runs]
  state = states.empty()
  for i, run in enumerate(runs):
    state = states.put(state, i, run.state())
  with contextlib.ExitStack() as stack:
    journal = None
    for run in runs:
      stack.enter_context(run.opened(describe_devices(), work, journal, named=len(runs) > 1))
      journal = run.journal
    for note in (getattr(source, "note", "") for source in sources.values()):
      if note:
        journal.note(note)
    for i, run in enumerate(runs):
      for told in run.origins():
        run.journal.note(f"starts from {told}")
      if hasattr(experiment.data, "prepare"):
        fresh = not run.begun
        vocabulary = _words_and_baselines(run.experiment, run.workdir, run.journal, fresh)
      run.look(totals, write, states.pick(state, i).best_params)

    batches = _Batches(sources["train"], order)
    while (going := [run for run in runs if run.going]) and not stopping():
      waited = time.perf_counter()
      places = [run.place if run.going else going[0].place for run in runs]
      rows = batches.at(places)
      waited = time.perf_counter() - waited
      state, measured = states.step(state, rows, size)
      for i, run in enumerate(runs):
        if run in going:
          examples = functools.partial(batches.examples, places[i])
          picked = functools.cache(functools.partial(states.pick, state, i))
          earlier = run.took(measured[i], rows[i], examples, picked, waited)
          if earlier is not None:
            state = states.put(state, i, earlier)
    for i, run in enumerate(runs):
      run.finish(functools.partial(states.pick, state, i))
  return [run.finished() for run in runs]


class _Batches:
  """Batches by the places at which runs stand; what several of them want is read once."""

  def __init__(self, source: pipeline.Source, order: Mapping[str, Any]):
    self._source, self._order = source, order
    self._iterators: dict[tuple[int, int], Any] = {}

  def at(self, places: Sequence[tuple[int, int]]) -> list[pipeline.Batch]:
    """The rows of the batch of each place: a seed and a number."""
    before, self._iterators, read = self._iterators, {}, {}
    for seed, number in dict.fromkeys(places):
      iterator = before.get((seed, number))
      if iterator is None:
        iterator = pipeline.batches(self._source, seed=seed, start=number, **self._order)
      read[seed, number] = next(iterator)
      self._iterators[seed, number + 1] = iterator
    return [read[place] for place in places]

  def examples(self, place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Which examples its rows are: their epochs and numbers."""
    seed, number = place
    return pipeline.examples(self._source, seed=seed, step=number, **self._order)


def _prepared(
  experiments: Sequence[Experiment],
) -> tuple[
  list[Experiment],
  update.Program,
  side_by_side.Alone | side_by_side.SideBySide,
  dict[str, pipeline.Source],
]:
  """The experiments, in microbatches that fit; the program of the first; what updates them all; a
  source for each split."""
  experiment = experiments[0]
  evals = [item for item in experiment.evals.values() if hasattr(item, "measure")]
  splits = {"train", *(item.split for item in evals)}
  sources = {split: experiment.data.source(split) for split in splits}
  batch = update.abstract_batch(experiment)
  mesh = experiment.sharding.make_mesh()

  def built(pieces: int):
    cut = [dataclasses.replace(item, microbatches=pieces) for item in experiments]
    program = update.build(cut[0], mesh, batch)
    return cut, program, side_by_side.states(program, cut)

  fitting = microbatches.fewest(
    experiment,
    lambda cut: built(cut.microbatches)[-1].compiled(batch),
    rows=experiment.sharding.layout(mesh).parts("B"),
  )
  return *built(fitting.microbatches), sources


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
