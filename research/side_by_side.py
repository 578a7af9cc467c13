"""The states of several runs as one, with a leading axis of trials, and one update of them all.

The update is `train_step` under `jax.vmap`. Each trial has its own numbers of the optimizer, its
own keys and, where seeds differ, its own batches; what they do not share they never see of one
another. Over the mesh axis `trial` the states are split, and nothing is sent along it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from research import feed, metrics, sharding, trials
from research.errors import RunError, UserError, reason
from research.experiment import Experiment
from research.mesh import TRIAL
from research.nn import platform
from research.update import Program, TrainState, compiled_step, seed_words, train_step

Rows = dict[str, np.ndarray]


def states(program: Program, experiments: Sequence[Experiment]) -> Alone | SideBySide:
  """What updates these experiments, of which `program` is that of the first."""
  return SideBySide(program, experiments) if len(experiments) > 1 else Alone(program)


class Alone:
  """The state of one run, with the methods of `SideBySide`."""

  def __init__(self, program: Program):
    self.program, self.layout = program, program.layout

  def empty(self) -> None:
    return None

  def put(self, state: TrainState | None, i: int, member: TrainState) -> TrainState:
    return member

  def pick(self, state: TrainState, i: int) -> TrainState:
    return state

  def step(self, state: TrainState, rows: Sequence[Rows], size: int):
    state, measured = self.program.step(state, self.program.place(rows[0], size))
    return state, [measured]

  def compiled(self, batch: Any) -> jax.stages.Compiled:
    return compiled_step(self.program, batch)


class SideBySide:
  """The states of K runs.

  Attributes:
    layout: of one update inside the program, where rows are not split over `trial`.
  """

  def __init__(self, program: Program, experiments: Sequence[Experiment]):
    """Compiles nothing.

    Args:
      program: of the first experiment.
      experiments: which `trials.differing` lets through.

    Raises:
      UserError: they do not divide over the mesh, or their optimizers keep different things.
    """
    mesh, first, count = program.layout.mesh, experiments[0], len(experiments)
    self.layout = program.layout.without(TRIAL)
    parts = self.layout.size(TRIAL)
    if count % parts:
      raise UserError(
        f"{count} trials do not divide by sharding.mesh.{TRIAL}={parts}; choose a size that "
        "divides them."
      )
    numbers = trials.differing(tuple(experiments))
    _check(program, experiments, numbers)
    words = np.stack([seed_words(item.seed) for item in experiments])
    along = TRIAL if parts > 1 else None

    def spread(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
      place = NamedSharding(mesh, PartitionSpec(along, *x.sharding.spec))
      return jax.ShapeDtypeStruct((count, *x.shape), x.dtype, sharding=place)

    self._abstract = jax.tree.map(spread, program.abstract)
    of_all = jax.tree.map(lambda x: x.sharding, self._abstract)
    of_one = jax.tree.map(lambda x: x.sharding, program.abstract)

    def update(state, batch, words, numbers):
      made = trials.with_numbers(first, numbers)
      transformation = made.optimizer.build(first.steps)
      return train_step(made, transformation, state, batch, words)

    def step(state, batches):
      batch, axis = batches[0], None
      if len(batches) > 1:
        batch, axis = jax.tree.map(lambda *parts: jnp.stack(parts), *batches), 0
      together = jax.vmap(update, in_axes=(0, axis, 0, 0), spmd_axis_name=along)
      with sharding.use(self.layout):
        state, measured = together(state, batch, words, numbers)
      # Brought together as a whole, once, and not one by one.
      measured = jax.lax.with_sharding_constraint(measured, self.layout.replicated)
      return state, [jax.tree.map(lambda x, i=i: x[i], measured) for i in range(count)]

    def one_of(x, i):
      """A mask for trial i, since a slice of what is split would gather all of it."""
      return (jnp.arange(count) == i).reshape(count, *[1] * (x.ndim - 1))

    def empty():
      return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self._abstract)

    def pick(state, i):
      return jax.tree.map(lambda x: jnp.where(one_of(x, i), x, 0).sum(0, dtype=x.dtype), state)

    def put(state, i, member):
      return jax.tree.map(lambda x, new: jnp.where(one_of(x, i), new, x), state, member)

    # Made here, not at module level: a jitted function outlives a run, and its shardings with it.
    self._step = jax.jit(
      step,
      out_shardings=(of_all, self.layout.replicated),
      donate_argnums=0,
      compiler_options=platform.compiler_options() or None,
    )
    self.empty = jax.jit(empty, out_shardings=of_all)
    self._pick = jax.jit(pick, out_shardings=of_one)
    self._put = jax.jit(put, out_shardings=of_all, donate_argnums=0)

  def put(self, state: TrainState, i: int, member: TrainState) -> TrainState:
    """`state` with `member` in the place of trial i; `state` is donated."""
    return self._put(state, np.int32(i), member)

  def pick(self, state: TrainState, i: int) -> TrainState:
    """A copy of the state of trial i, which lies as that of a run by itself."""
    return self._pick(state, np.int32(i))

  def step(
    self, state: TrainState, rows: Sequence[Rows], size: int
  ) -> tuple[TrainState, list[metrics.Metrics]]:
    """One update of every trial; `state` is donated.

    Args:
      state: of all.
      rows: of each trial's batch, those that this process reads (`feed.rows` of `layout`).
      size: of a batch.

    Returns:
      The state after it, and what each trial measured.
    """
    several = any(batch is not rows[0] for batch in rows)
    read = rows if several else rows[:1]
    return self._step(state, [feed.place(self.layout, batch, size) for batch in read])

  def compiled(self, batch: Any) -> jax.stages.Compiled:
    """The step for batches of these shapes, all trials with the same; it knows its memory."""
    placed = {
      name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=feed.sharding(self.layout, x.shape))
      for name, x in batch.items()
    }
    return self._step.lower(self._abstract, [placed]).compile()


def _check(program: Program, experiments: Sequence[Experiment], numbers: Any) -> None:
  """UserError where optimizers do not keep the same arrays, or need their numbers beforehand."""

  def kept(experiment):
    return experiment.optimizer.build(experiment.steps).init(program.abstract.params)

  each = [jax.eval_shape(functools.partial(kept, item)) for item in experiments]
  for item, tree in zip(experiments, each, strict=True):
    if tree != each[0]:
      raise UserError(
        f"{experiments[0].name} and {item.name} cannot be trained in one program: their optimizers "
        f"keep different arrays, which hangs on {' or '.join(numbers)}; run them by themselves."
      )
  first = {path: values[0] for path, values in numbers.items()}
  try:
    jax.eval_shape(lambda numbers: kept(trials.with_numbers(experiments[0], numbers)), first)
  except RunError:
    raise
  except Exception as error:
    raise UserError(
      f"{' or '.join(numbers)} cannot differ between the trials of one program: the optimizer asks "
      f"for it before it runs ({reason(error)}); run them by themselves."
    ) from error
