"""The one loop: batches in, parameters out.

`build` turns an experiment into compiled functions without running anything, so that a planner
can ask for their memory; `train` runs them, and evaluates, samples, logs and saves on the way.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

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
  optim,
  sharding,
)
from research.data import pipeline
from research.errors import NumericsError, UserError
from research.experiment import Experiment
from research.fit import Finished, fitted, score
from research.nn import platform
from research.preemption import interruptions

SKIPS = 10  # steps in a row without finite numbers, after which a run has gone astray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """All that changes in training, and nothing else.

  Attributes:
    step: updates done, int32.
    params: nested dict of float32 arrays.
    opt_state: of optax.
    average: moving average of params, or None.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  average: Any = None

  @property
  def best_params(self) -> Any:
    """What evaluations and samples use: the average where one is kept."""
    return self.params if self.average is None else self.average


@dataclasses.dataclass(frozen=True)
class Program:
  """An experiment on a mesh, ready to compile.

  Attributes:
    layout: mesh and letter rules.
    abstract: the state's shapes, dtypes and shardings; no array stands behind it.
    init: () -> TrainState, placed as `abstract` says.
    step: (TrainState, batch) -> (TrainState, Metrics); the state is donated.
    measures: by name of the evaluation, (params, batch) -> Metrics.
    place: a batch -> arrays on the mesh; see `feed.place`.
  """

  layout: sharding.Layout
  abstract: TrainState
  init: Callable[[], TrainState]
  step: Callable[[TrainState, Any], tuple[TrainState, metrics.Metrics]]
  measures: dict[str, Callable[[Any, Any], metrics.Metrics]]
  place: Callable[..., Any]


def build(experiment: Experiment, mesh: jax.sharding.Mesh, batch: Any) -> Program:
  """Shapes, then shardings, then functions; arrays come when they are called.

  Args:
    experiment: what to train.
    mesh: from `experiment.sharding.make_mesh()`.
    batch: the abstract global batch (`jax.ShapeDtypeStruct` leaves).

  Raises:
    UserError: sizes that the model, the microbatches or the mesh cannot divide.
  """
  layout = experiment.sharding.layout(mesh)
  if experiment.batch_size % experiment.microbatches:
    raise UserError(
      f"microbatches={experiment.microbatches} does not divide batch_size="
      f"{experiment.batch_size}; choose a divisor."
    )
  transformation = experiment.optimizer.build(experiment.steps)

  def boxed():
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), batch)
    initialize = nn.init(experiment.objective, experiment.model)
    return initialize(jax.random.key(experiment.seed), zeros)["params"]

  def init() -> TrainState:
    # From here on parameters are plain arrays in plain dicts; the letters stay in the shardings.
    params = nn.meta.unbox(boxed())
    average = None if experiment.average is None else jax.tree.map(jnp.copy, params)
    return TrainState(jnp.zeros((), jnp.int32), params, transformation.init(params), average)

  with sharding.use(layout):
    abstract = jax.eval_shape(init)
    placed = _placements(layout, abstract, jax.eval_shape(boxed))
  abstract = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, placed
  )
  batch_placed = {name: feed.sharding(layout, x.shape) for name, x in batch.items()}

  def traced(function):
    """Runs `function` with this layout in force while it is traced."""

    @functools.wraps(function)
    def inside(*args):
      with sharding.use(layout):
        return function(*args)

    return inside

  # Made here, not at module level: a jitted function outlives a run, and its shardings with it.
  jit = functools.partial(jax.jit, compiler_options=platform.compiler_options() or None)
  return Program(
    layout=layout,
    abstract=abstract,
    init=jax.jit(traced(init), out_shardings=placed),
    step=jit(
      traced(functools.partial(train_step, experiment, transformation)),
      in_shardings=(placed, batch_placed),
      out_shardings=(placed, layout.replicated),
      donate_argnums=0,
    ),
    measures={
      name: jit(traced(item.measure(experiment.model)), out_shardings=layout.replicated)
      for name, item in experiment.evals.items()
    },
    place=functools.partial(feed.place, layout),
  )


def compiled_step(program: Program, batch: Any) -> jax.stages.Compiled:
  """The training step for batches of these shapes, compiled: it knows what memory it needs."""
  return program.step.lower(program.abstract, batch).compile()


def train_step(
  experiment: Experiment,
  transformation: optax.GradientTransformation,
  state: TrainState,
  batch: dict[str, jax.Array],
) -> tuple[TrainState, metrics.Metrics]:
  """One update: the gradient of the batch's mean loss, however many microbatches it comes in.

  Where the loss or the gradient is not finite, nothing changes but the step, and "skipped" is 1.
  """
  key = jax.random.fold_in(jax.random.key(experiment.seed), state.step)
  objective, n = experiment.objective, experiment.microbatches
  if n > 1 and getattr(objective, "cut", None):  # a loss that compares examples does not add up
    objective, n = objective.cut(n), 1
  score = nn.apply(objective, experiment.model)

  def total_loss(params, batch, key):
    measured = score({"params": params}, batch, rngs={"dropout": key})
    return measured["loss"].total, measured

  gradient = jax.grad(total_loss, has_aux=True)
  if n == 1:
    grads, measured = gradient(state.params, batch, key)
  else:
    grads, measured = _accumulate(gradient, state.params, batch, key, n)
  weight = measured["loss"].weight
  grads = jax.tree.map(lambda g: g / (weight + (weight == 0)), grads)

  updates, opt_state = transformation.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  average = state.average
  if average is not None:
    average = optim.average(average, params, experiment.average, state.step)
  norm = optax.tree.norm(grads)
  finite = jnp.isfinite(measured["loss"].total) & jnp.isfinite(norm)
  # Chosen, not multiplied by zero: zero times NaN is NaN.
  params, opt_state, average = jax.tree.map(
    functools.partial(jnp.where, finite),
    (params, opt_state, average),
    (state.params, state.opt_state, state.average),
  )
  one = jnp.ones(())
  measured = {
    **measured,
    "gradient_norm": metrics.Mean(norm, one),
    "skipped": metrics.Mean(1.0 - finite, one),
    "learning_rate": metrics.Mean(
      optim.learning_rate(experiment.optimizer, experiment.steps, state.step), one
    ),
  }
  return TrainState(state.step + 1, params, opt_state, average), measured


def _accumulate(gradient, params, batch, key, n):
  """Sums gradients and totals over n microbatches; each device keeps its own examples."""
  pieces = jax.tree.map(lambda x: x.reshape(-1, n, *x.shape[1:]).swapaxes(0, 1), batch)
  keys = jax.random.split(key, n)

  def body(carry, piece):
    return jax.tree.map(jnp.add, carry, gradient(params, *piece)), None

  first = jax.tree.map(lambda x: x[0], (pieces, keys))
  shapes = jax.eval_shape(gradient, params, *first)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return jax.lax.scan(body, zeros, (pieces, keys))[0]


def _placements(layout: sharding.Layout, state: TrainState, boxed: Any) -> TrainState:
  """A sharding for every leaf: parameters by their letters, the rest as its parameter or whole."""

  def by_letters(box):
    if isinstance(box, nn.meta.AxisMetadata):
      value = box.unbox()
      return layout.sharding([name or "." for name in box.names], value.shape)
    return layout.replicated

  placed = jax.tree.map(by_letters, boxed, is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata))
  of_param = {
    path: (leaf.shape, place)
    for (path, leaf), place in zip(
      jax.tree_util.tree_leaves_with_path(state.params), jax.tree.leaves(placed), strict=True
    )
  }

  def like_its_parameter(path, leaf):
    """Moments carry their parameter's path at the end of their own."""
    for start in range(len(path)):
      shape, place = of_param.get(path[start:], (None, None))
      if shape == leaf.shape:
        return place
    return layout.replicated

  return jax.tree_util.tree_map_with_path(like_its_parameter, state)


def abstract_batch(source: pipeline.Source, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
  """The shapes of a global batch, read off one example; no batch is consumed."""
  example = source.take(np.zeros(1, np.int64), 0)
  return {
    name: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), x.dtype) for name, x in example.items()
  }


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
    batch = abstract_batch(sources["train"], experiment.batch_size)
    mesh = experiment.sharding.make_mesh()
    experiment = microbatches.fewest(
      experiment,
      lambda cut: compiled_step(build(cut, mesh, batch), batch),
      rows=experiment.sharding.layout(mesh).parts("B"),
    )
    program = build(experiment, mesh, batch)
    sizes = {
      name: item.batch_size or experiment.batch_size for name, item in experiment.evals.items()
    }
    rows_of = {
      size: feed.rows(program.layout, size) for size in (experiment.batch_size, *sizes.values())
    }
    work = flops.of_training(experiment, batch)
    tokens = tokens_of(batch)
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


def tokens_of(batch: dict[str, jax.ShapeDtypeStruct]) -> int:
  """What throughput counts: tokens where the batch has them, otherwise examples."""
  return batch["tokens"].size if "tokens" in batch else next(iter(batch.values())).shape[0]


def describe_devices() -> str:
  """For example "1 cpu device", or "8 TPU v5p devices"."""
  count, kind, processes = jax.device_count(), jax.devices()[0].device_kind, jax.process_count()
  where = f" in {processes} processes" if processes > 1 else ""
  return f"{count} {kind} device{'s' if count > 1 else ''}{where}"


def _due(step: int, every: int | None, steps: int) -> bool:
  return step == steps or step % (every or max(1, steps // 10)) == 0
