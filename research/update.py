"""One update of training, compiled for a mesh: from shapes to shardings to functions.

`build` runs nothing, so that a planner can ask the functions for their memory, and a verifier can
call one of them by itself; `train.py` is the loop around them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from research import feed, gradient, metrics, optim, sharding, trials
from research.errors import UserError
from research.experiment import Experiment
from research.guard import Statistics
from research.nn import platform
from research.placements import is_box, letters, placements
from research.stacking import spell
from research.step import Step


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """All that changes in training, and nothing else.

  Attributes:
    step: updates done, int32.
    params: nested dict of float32 arrays.
    opt_state: of optax.
    average: moving average of params, or None.
    guard: what `Guard` compares the next step with.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  average: Any
  guard: Statistics

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
    init: () -> TrainState, placed as `abstract` says; of another seed see `seeded`.
    begin: params -> TrainState before the first update; the params are donated.
    step: (TrainState, batch) -> (TrainState, Metrics); the state is donated; see `Step`.
    measures: by name of an evaluation in batches, (params, batch) -> Metrics.
    plain: the parameters of a state -> those that the model knows; without adapters the same.
    place: a batch -> arrays on the mesh; see `feed.place`.
  """

  layout: sharding.Layout
  abstract: TrainState
  init: Callable[[], TrainState]
  begin: Callable[[Any], TrainState]
  step: Step
  measures: dict[str, Callable[[Any, Any], metrics.Metrics]]
  plain: Callable[[Any], Any]
  place: Callable[..., Any]

  def seeded(self, seed: int) -> Program:
    """The same program with another seed; nothing is compiled again."""
    words = seed_words(seed)
    init = functools.partial(self.init.func, words)
    return dataclasses.replace(self, init=init, step=dataclasses.replace(self.step, words=words))


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

  words = seed_words(experiment.seed)

  def boxed(words=words):
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), batch)
    return _initial(experiment, jax.random.wrap_key_data(words), zeros)

  def begin(params) -> TrainState:
    average = None if experiment.average is None else jax.tree.map(jnp.copy, params)
    opt_state, guard = transformation.init(params), experiment.guard.start()
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state, average, guard)

  def init(words) -> TrainState:
    # From here on parameters are plain arrays in plain dicts; the letters stay in the shardings.
    return begin(nn.meta.unbox(boxed(words)))

  with sharding.use(layout):
    abstract = jax.eval_shape(init, words)
    placed = placements(layout, abstract, jax.eval_shape(boxed))
  abstract = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, placed
  )
  if experiment.adapters is not None:
    experiment.adapters.check(abstract.params, gradient.groups(experiment))
  plain = gradient.plain(experiment)
  batch_placed = {name: feed.sharding(layout, x.shape) for name, x in batch.items()}

  def traced(function):
    """Runs `function` with this layout in force while it is traced."""

    @functools.wraps(function)
    def inside(*args):
      with sharding.use(layout):
        return function(*args)

    return inside

  numbers = {f"optimizer.{path}": x for path, x in optim.given(experiment.optimizer).items()}

  def step(state, batch, words, numbers):
    made = trials.with_numbers(experiment, numbers)
    return train_step(made, made.optimizer.build(experiment.steps), state, batch, words)

  # Made here, not at module level: a jitted function outlives a run, and its shardings with it.
  jit = functools.partial(jax.jit, compiler_options=platform.compiler_options() or None)
  return Program(
    layout=layout,
    abstract=abstract,
    init=functools.partial(jax.jit(traced(init), out_shardings=placed), words),
    begin=jax.jit(traced(begin), out_shardings=placed, donate_argnums=0),
    step=Step(
      jit(
        traced(step),
        in_shardings=(placed, batch_placed, layout.replicated, layout.replicated),
        out_shardings=(placed, layout.replicated),
        donate_argnums=0,
      ),
      words,
      numbers,
      layout.replicated,
    ),
    measures={
      name: jit(traced(item.measure(experiment.model)), out_shardings=layout.replicated)
      for name, item in experiment.evals.items()
      if hasattr(item, "measure")
    },
    plain=plain if experiment.adapters is None else jit(traced(plain)),
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
  words: jax.Array,
) -> tuple[TrainState, metrics.Metrics]:
  """One update: the gradient of the batch's mean loss, however many microbatches it comes in.

  Where the experiment's guard says so, nothing changes but the step, and "skipped" is 1. `words`
  are those of the seed (`seed_words`).
  """
  key = gradient.randomness(experiment, state.step, jax.random.wrap_key_data(words))
  grads, measured = gradient.of(experiment, state.params, batch, key)
  groups = gradient.groups(experiment)
  weight = measured["loss"].weight
  zeros = jax.tree.map(jnp.zeros_like, state.params)
  updates, opt_state = transformation.update(
    optim.merge(grads, zeros), state.opt_state, state.params
  )
  # The frozen ones themselves: -0 + 0 is another number, to the bit.
  params = optim.merge(groups.trained(optax.apply_updates(state.params, updates)), state.params)
  average = state.average
  if average is not None:
    average = optim.average(average, params, experiment.average, state.step)
  norm = optax.tree.norm(grads)
  loss = measured["loss"].total / (weight + (weight == 0))
  taken, guard = experiment.guard.judge(state.guard, loss, norm)
  # Chosen, not multiplied by zero: zero times NaN is NaN.
  params, opt_state, average = jax.tree.map(
    functools.partial(jnp.where, taken),
    (params, opt_state, average),
    (state.params, state.opt_state, state.average),
  )
  one = jnp.ones(())
  measured = {
    **measured,
    "gradient_norm": metrics.Mean(norm, one),
    "skipped": metrics.Mean(1.0 - taken, one),
    # Of the steps that were taken: the optimizer does not count the others.
    "learning_rate": metrics.Mean(
      optim.learning_rate(experiment.optimizer, experiment.steps, state.guard.count), one
    ),
  }
  return TrainState(state.step + 1, params, opt_state, average, guard), measured


def seed_words(seed: int) -> np.ndarray:
  """A seed as the words of its key, which a program can be given while it runs."""
  return np.asarray(jax.random.key_data(jax.random.key(seed)))


def abstract_batch(experiment: Experiment) -> dict[str, jax.ShapeDtypeStruct]:
  """The shapes of a global batch; no batch is consumed.

  A dataset that can say what its examples look like (`example()`) is not opened; of another one,
  one example is read.
  """
  if hasattr(experiment.data, "example"):
    example = experiment.data.example()
  else:
    example = experiment.data.source("train").take(np.zeros(1, np.int64), 0)
  return {
    name: jax.ShapeDtypeStruct((experiment.batch_size, *x.shape[1:]), x.dtype)
    for name, x in example.items()
  }


def parameters(
  experiment: Experiment, batch: Any
) -> list[tuple[str, tuple[str, ...], tuple[int, ...]]]:
  """(name, letters, shape) of every parameter, as it is traced now; '.' is a nameless dimension."""
  boxed = jax.eval_shape(lambda batch: _initial(experiment, jax.random.key(0), batch), batch)
  return [
    (spell(path), letters(box), nn.meta.unbox(box).shape)
    for path, box in jax.tree_util.tree_leaves_with_path(boxed, is_leaf=is_box)
  ]


def _initial(experiment: Experiment, key: jax.Array, batch: Any) -> Any:
  """The parameters that training begins with, in boxes that name their letters."""
  boxed = nn.init(experiment.objective, experiment.model)(key, batch)["params"]
  return boxed if experiment.adapters is None else experiment.adapters.add(key, boxed)


def tokens_of(batch: dict[str, jax.ShapeDtypeStruct]) -> int:
  """What throughput counts: tokens where the batch has them, otherwise examples."""
  return batch["tokens"].size if "tokens" in batch else next(iter(batch.values())).shape[0]
