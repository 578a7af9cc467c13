"""Two experiments trained side by side for a few steps, until they part.

Each reads its own batches and makes its own updates; what both have is compared by name, a layer at
a time: first the initial values, then of every step the batch, the gradient, the parameters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from research import fitting, sharding, warm_start
from research import gradient as gradients
from research.data import pipeline
from research.errors import UserError
from research.experiment import Experiment
from research.stacking import unstack

CLEAR = 1e-2  # of an array's norm: more than the rounding of another order of sums makes at first


@dataclasses.dataclass(frozen=True)
class Apart:
  """Where two experiments differ.

  Attributes:
    step: the update, from 1; 0 before the first.
    what: "initial values", "batch", "gradient" or "parameters".
    name: of the array that differs most.
    far: norm of the difference over that of the first; infinite where shapes differ, or a number
      is infinite.
    largest: difference of any of its numbers; None where shapes differ.
    count, of: how many arrays differ, of those that both have.
  """

  step: int
  what: str
  name: str
  far: float
  largest: float | None
  count: int
  of: int


@dataclasses.dataclass(frozen=True)
class Lockstep:
  """What came of it.

  Attributes:
    steps: that both took.
    losses: of both, step by step.
    first: where any bit differs first, or None.
    clear: where more than `CLEAR` differs first, or None; then training ended.
    alone: parameters that only one has, which are not compared.
  """

  steps: int
  losses: tuple[tuple[float, float], ...]
  first: Apart | None
  clear: Apart | None
  alone: tuple[str, ...] = ()


class Runner:
  """One experiment, a step at a time."""

  def __init__(self, experiment: Experiment):
    """Builds it on the devices that are here, with its first state.

    Raises:
      UserError: it has no steps, or does not fit the devices or its `memory_target`.
    """
    if experiment.optimizer is None:
      raise UserError(f"{experiment.name} counts its model and takes no steps to be compared.")
    experiment, self.program = fitting.program(experiment)
    self.experiment = experiment
    self.batches = pipeline.batches(
      experiment.data.source("train"), experiment.batch_size, seed=experiment.seed, threads=0
    )
    self.state, _ = warm_start.first(experiment.init_from, self.program)

    def gradient(state, batch):
      with sharding.use(self.program.layout):
        key = gradients.randomness(experiment, state.step)
        return gradients.of(experiment, state.params, batch, key)[0]

    self.gradient = jax.jit(gradient)

  def seen(self) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """What one step makes, in its order: (what, arrays by name); the loss last."""
    rows = next(self.batches)
    yield "batch", rows
    batch = self.program.place(rows)
    yield "gradient", _host(self.gradient(self.state, batch))
    self.state, measured = self.program.step(self.state, batch)
    yield "parameters", _host(self.state.params)
    yield "loss", {"loss": np.asarray(measured["loss"].mean())}


def lockstep(a: Experiment, b: Experiment, most: int) -> Lockstep:
  """Trains both for at most so many steps, and no further than where they part clearly.

  Raises:
    UserError: one of them cannot be trained here.
  """
  runners = Runner(a), Runner(b)
  first = clear = apart(0, "initial values", *(_host(r.state.params) for r in runners))
  losses: list[tuple[float, float]] = []
  while len(losses) < most and not _is_clear(clear):
    step = len(losses) + 1
    for (what, mine), (_, theirs) in zip(*(runner.seen() for runner in runners), strict=True):
      if what == "loss":
        losses.append((float(mine["loss"]), float(theirs["loss"])))
      elif not _is_clear(clear):
        clear = apart(step, what, mine, theirs)
        first = first or clear
  one, other = (unstack(runner.program.abstract.params).keys() for runner in runners)
  clear = clear if _is_clear(clear) else None
  return Lockstep(len(losses), tuple(losses), first, clear, tuple(sorted(one ^ other)))


def apart(
  step: int, what: str, a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]
) -> Apart | None:
  """How far what both have is apart; None where every bit is the same."""
  both = [name for name in a if name in b]
  found = {name: far for name in both if (far := _far(a[name], b[name])) is not None}
  if not found:
    return None
  name = max(found, key=found.get)
  same_shape = a[name].shape == b[name].shape
  wide = [np.asarray(x[name], np.float64) for x in (a, b)]
  largest = float(abs(wide[0] - wide[1]).max()) if same_shape else None
  return Apart(step, what, name, found[name], largest, len(found), len(both))


def _far(a: np.ndarray, b: np.ndarray) -> float | None:
  """The norm of the difference over that of `a`; None where there is none."""
  if a.shape != b.shape:
    return np.inf
  if np.array_equal(a, b, equal_nan=np.issubdtype(a.dtype, np.inexact)):
    return None
  wide = [np.asarray(x, np.float64) for x in (a, b)]
  norm = np.linalg.norm(wide[0])
  far = np.linalg.norm(wide[0] - wide[1]) / (norm or 1.0)
  return float(far) if np.isfinite(far) else np.inf


def _is_clear(found: Apart | None) -> bool:
  return found is not None and (found.what == "batch" or found.far > CLEAR)


def _host(tree: Any) -> dict[str, np.ndarray]:
  return {name: np.asarray(x) for name, x in unstack(jax.device_get(tree)).items()}
