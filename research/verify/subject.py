"""What is verified: a small experiment, one batch of it, and its training step on any mesh."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from research import metrics, update
from research.data import pipeline
from research.experiment import Experiment
from research.mesh import PRESETS, Sharding
from research.overrides import override
from research.stacking import names, unstack
from research.verify.rows import DoesNotApply, furthest
from research.verify.small import bare, found, small, walk

MOVED = 0.05  # added to every initial value, so that zeros hide nothing
GRADIENT, PROBE, PARAMS = "opt_state/gradient/", "opt_state/probe/", "params/"

Flat = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Observed:
  """An optimizer that keeps the gradient it is shown, and updates by a fixed one, the probe.

  An optimizer such as Adam divides by the size of the gradient, and where that is zero it makes
  whole steps of rounding errors. So the gradient is compared by itself, and the update for a
  gradient that is the same in every arrangement.
  """

  inner: Any

  @property
  def learning_rate(self) -> Any:
    return self.inner.learning_rate

  def build(self, steps: int) -> optax.GradientTransformation:
    inner = self.inner.build(steps)

    def init(params):
      zeros = jax.tree.map(jnp.zeros_like, params)
      return {"gradient": zeros, "probe": zeros, "inner": inner.init(params)}

    def update(gradient, state, params):
      updates, kept = inner.update(state["probe"], state["inner"], params)
      return updates, {"gradient": gradient, "probe": state["probe"], "inner": kept}

    return optax.GradientTransformation(init, update)


@dataclasses.dataclass(frozen=True)
class Still:
  """An objective whose model drops nothing, also where its rates are not fields to be set.

  Attributes:
    objective: the experiment's.
    cut: (pieces) -> the same of its pieces, where it takes care of them itself; or None.
  """

  objective: Any
  cut: Callable[[int], Any] | None = None

  @classmethod
  def of(cls, objective: Any) -> Still:
    cut = getattr(objective, "cut", None)
    return cls(objective, cut and (lambda pieces: cls.of(cut(pieces))))

  def __call__(self, model: Any, batch: Any) -> metrics.Metrics:
    def watch(call, arguments, named, context):
      drops = "Dropout" in type(context.module).__name__ and context.method_name == "__call__"
      return arguments[0] if drops and arguments else call(*arguments, **named)

    with nn.intercept_methods(watch):
      return self.objective(model, batch)


@dataclasses.dataclass(frozen=True)
class Result:
  """One step: the means of the metrics, the gradient by name, and the state after the update."""

  metrics: Flat
  gradient: Flat
  state: Flat

  def apart(self, other: Result) -> tuple[float, str]:
    """The largest difference from `other` in anything, and what differs, in words."""
    far, name = max(
      furthest(getattr(self, part), getattr(other, part))
      for part in ("metrics", "gradient", "state")
    )
    losses = f"{self.metrics['loss']:.6g} and {other.metrics['loss']:.6g}"
    return far, f"{name} differs most; the losses are {losses}"


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
  """A small experiment with everything about it that the checks share.

  Attributes:
    target, words: the file and what the command line says of it; a new process reads them again.
    experiment: small.
    change: what was made small, in one line.
    meshes: to spread it over, by preset or sizes.
  """

  target: str
  words: tuple[str, ...]
  experiment: Experiment
  change: str = ""
  meshes: tuple[str, ...] = tuple(PRESETS)

  @classmethod
  def of(cls, target: str, words: Sequence[str], experiment: Experiment) -> Subject:
    """Raises UserError where the experiment cannot be built at all."""
    if experiment.optimizer is None:
      return cls(target, tuple(words), bare(experiment), "a counted model is fitted as it is")
    made, change = small(bare(experiment), lambda twin: build(twin, one_device(twin), 1))
    return cls(target, tuple(words), made, change)

  @functools.cached_property
  def plain(self) -> Experiment:
    """Without dropout and in float32: what arrangements must not change."""
    if self.experiment.optimizer is None:
      raise DoesNotApply("a counted model has no gradient and no layers")
    off = {path: 0.0 for path in dropouts(self.experiment)}
    off |= {path: "float32" for path in found(self.experiment, "model", "dtype")}
    still = dataclasses.replace(self.experiment, objective=Still.of(self.experiment.objective))
    return changed(still, off)

  @functools.cached_property
  def rows(self) -> dict[str, np.ndarray]:
    """A host batch with documents of many lengths."""
    return uneven(first_batch(self.experiment))

  @functools.cached_property
  def program(self) -> update.Program:
    return build(self.plain, one_device(self.plain), 1)

  @functools.cached_property
  def flat(self) -> Flat:
    """The state to start from by name: initial values, all of them moved, and the probe."""
    flat = host(self.program.init())
    rng = np.random.RandomState(0)
    for name, x in flat.items():
      if name.startswith((PARAMS, "average/")):
        flat[name] = x + MOVED * rng.standard_normal(x.shape).astype(x.dtype)
      if name.startswith(PROBE):
        flat[name] = rng.standard_normal(x.shape).astype(x.dtype)
    return flat

  @functools.cached_property
  def params(self) -> Any:
    """The moved parameters on one device."""
    return fill(self.program.abstract, self.flat).params

  @functools.cached_property
  def base(self) -> Result:
    """One step on one device, undivided: what every other arrangement is compared with."""
    return self.step()

  def step(
    self,
    experiment: Experiment | None = None,
    *,
    sharding: Sharding | None = None,
    devices: int = 1,
    rows: Mapping[str, np.ndarray] | None = None,
    number: int = 0,
  ) -> Result:
    """What update `number` does in some arrangement, from the same values."""
    if experiment is None:
      program = self.program
    else:
      program = build(experiment, sharding or one_device(experiment), devices)
    return observe(program, self.flat, self.rows if rows is None else rows, number)


def observe(
  program: update.Program, flat: Flat, rows: Mapping[str, np.ndarray], number=0
) -> Result:
  """Runs update `number` of a program from the values in `flat`."""
  start = {**flat, "step": np.asarray(number, np.int32)}
  state, measured = program.step(fill(program.abstract, start), program.place(dict(rows)))
  after = host(state)
  return Result(
    {name: np.asarray(x) for name, x in means(measured).items()},
    {
      f"the gradient of {name.removeprefix(GRADIENT)}": x
      for name, x in after.items()
      if name.startswith(GRADIENT)
    },
    {name: x for name, x in after.items() if not name.startswith((GRADIENT, PROBE))},
  )


def means(measured: metrics.Metrics) -> dict[str, float]:
  """The mean of every metric."""
  return {name: float(mean.mean()) for name, mean in measured.items()}


def build(experiment: Experiment, sharding: Sharding, devices: int) -> update.Program:
  """The experiment on the first `devices`, its gradient kept to be looked at."""
  observed = dataclasses.replace(experiment, optimizer=Observed(experiment.optimizer))
  placed = dataclasses.replace(observed, sharding=sharding)
  batch = update.abstract_batch(placed)
  return update.build(placed, sharding.make_mesh(jax.devices()[:devices]), batch)


def one_device(experiment: Experiment) -> Sharding:
  """Every axis of size one, under the experiment's own rules."""
  mesh = dict.fromkeys(experiment.sharding.mesh, 1)
  return dataclasses.replace(experiment.sharding, mesh=mesh, slices={})


def first_batch(experiment: Experiment) -> dict[str, np.ndarray]:
  source = experiment.data.source("train")
  return next(pipeline.batches(source, experiment.batch_size, seed=experiment.seed, threads=0))


def uneven(rows: Mapping[str, np.ndarray], first: int = 0) -> dict[str, np.ndarray]:
  """The batch with padding of many lengths, the most in odd rows: no two parts weigh the same."""
  rows = {name: x.copy() for name, x in rows.items()}
  if "segments" in rows:
    for b, segments in enumerate(rows["segments"]):
      row, L = first + b, len(segments)
      end = L - (L // 2 if row % 2 else 0) - row // 2 % max(1, L // 4)
      for x in rows.values():
        if x.shape[1:2] == (L,):
          x[b, end:] = 0
  elif "weights" in rows:
    rows["weights"][1::4] = 0
  return rows


def fill(like: update.TrainState, flat: Flat) -> update.TrainState:
  """A state placed as `like` says, with the values of `flat`, stacked where `like` stacks."""
  layers = iter(unstack(like))
  leaves = []
  for name, leaf in zip(names(like), jax.tree.leaves(like), strict=True):
    count = leaf.shape[0] if "::" in name else 1
    values = [flat[next(layers)] for _ in range(count)]
    value = np.stack(values) if "::" in name else values[0]
    leaves.append(jax.device_put(value, leaf.sharding))
  return jax.tree.unflatten(jax.tree.structure(like), leaves)


def host(state: Any) -> Flat:
  """Every array by name, one entry a layer."""
  return {name: np.asarray(x) for name, x in unstack(jax.device_get(state)).items()}


def dropouts(experiment: Experiment) -> dict[str, float]:
  """The fields of the model that are rates of dropout."""
  return {
    path: value
    for path, name, value in walk(experiment.model, "model")
    if "dropout" in name and isinstance(value, int | float)
  }


def changed(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
  """`override`, without what is so already."""
  now = {path: value for path, _, value in walk(experiment)}
  return override(experiment, {path: new for path, new in changes.items() if now[path] != new})
