"""Health: follows a run step by step, and says what is wrong once it is.

Like the log it reads what a step measured once the next was dispatched, so that the device never
waits. The probes run every hundred steps or less often.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from research import update
from research.experiment import Experiment
from research.health import rules
from research.health.probe import Movement, Units
from research.health.told import Told
from research.health.words import Unigrams

OFTEN, LOOKS = 100, 20  # steps between two looks, at least; looks in a run, at most
SLOW = 10  # steps in which a learning rate hardly changes


class Health:
  """The watch over one run."""

  def __init__(self, experiment: Experiment, program: update.Program, told: Told, *, start: int):
    """Measures nothing yet.

    Args:
      experiment: of the run.
      program: of it.
      told: where it speaks.
      start: the step that the run goes on from.
    """
    self._experiment, self._program, self._told = experiment, program, told
    self._every = max(OFTEN, experiment.steps // LOOKS)
    self._start = start
    self._pending: _Pending | None = None
    self._spikes, self._edge, self._unigrams = rules.Spikes(), rules.Edge(), Unigrams()
    self._nats: collections.deque[float] = collections.deque(maxlen=rules.WINDOW)
    self._rate, self._highest, self._peak = 0.0, 0.0, start
    self._movement: Movement | None = None
    self._units: Units | None = None
    self._before: list[jax.Array] | None = None
    self._ratios: dict[str, float] = {}
    self._dead: dict[str, np.ndarray] = {}
    self._due = max(2 * OFTEN, experiment.steps // 10)

  def step(
    self,
    step: int,
    measured: Mapping[str, Any],
    rows: Mapping[str, np.ndarray],
    params: Callable[[], Any],
  ) -> None:
    """Takes a step that was just dispatched.

    Args:
      step: updates with this one.
      measured: its Metrics.
      rows: of its batch, that this process read.
      params: () -> the parameters after it.
    """
    self.settle()
    if "nats" in measured and step - self._start < OFTEN:
      self._unigrams.see(rows)
      if "places" in rows:  # of masked words a model knows frequencies alone for long, and is well
        self._due = max(2 * OFTEN, self._experiment.steps // 2)
    self._pending = _Pending(step, measured, *self._looks(step, rows, params))

  def settle(self) -> None:
    """Reads the newest step; it waits for the device."""
    if self._pending is None:
      return
    pending, self._pending = self._pending, None
    step, measured = pending.step, pending.measured
    loss, norm = _mean(measured["loss"]), float(measured["gradient_norm"].total)
    if not math.isfinite(loss + norm):  # the guard has not followed it, and says so
      return
    if self._experiment.guard.spike is not None and float(measured["skipped"].total):
      return
    if step % SLOW == 0 or not self._highest:
      self._rate = float(measured["learning_rate"].total)
    if self._rate > self._highest:
      self._highest, self._peak = self._rate, step
    self._curves(step, loss, norm)
    self._words(step, measured)
    if pending.moved is not None and self._rate >= rules.NEAR * self._highest and step > self._peak:
      self._moved(step, np.asarray(pending.moved))
    if pending.dead is not None:
      self._units_of(step, dict(zip(self._units.names, map(np.asarray, pending.dead))))

  def back(self) -> None:
    """The run has gone back to an earlier state."""
    self._pending = self._before = None

  def _curves(self, step: int, loss: float, norm: float) -> None:
    if said := self._spikes.see(step, norm):
      self._told.say(step, f"spike {step}", said)
    if said := self._edge.see(loss, self._rate):
      self._told.once(step, "learning rate", said)

  def _words(self, step: int, measured: Mapping[str, Any]) -> None:
    """Whether a language model does better than token frequencies, every hundred steps."""
    since = step - self._start
    ahead = -since % OFTEN  # steps to the next answer, which needs those of a window
    if "nats" not in measured or ahead >= rules.WINDOW:
      return
    self._nats.append(_mean(measured["nats"]))
    due = not ahead and step >= max(self._due, 2 * self._peak)
    if due and (said := rules.above_unigrams(self._nats, self._unigrams.entropy())):
      self._told.once(step, "unigrams", said)

  def _units_of(self, step: int, dead: dict[str, np.ndarray]) -> None:
    """Dead is what was silent in this look and in the one before."""
    both = {name: (x & self._dead[name]).mean() for name, x in dead.items() if name in self._dead}
    if said := rules.dead(both):
      self._told.once(step, "dead units", said)
    self._dead = dead

  def _moved(self, step: int, ratios: np.ndarray) -> None:
    found = {
      name: ratio
      for name, ratio in zip(self._movement.names, ratios.tolist())
      if math.isfinite(ratio)
    }
    for kind, said in rules.out_of_range(found, self._ratios).items():
      self._told.once(step, f"{kind} layers", said)
    self._ratios = found

  def _looks(
    self, step: int, rows: Mapping[str, np.ndarray], params: Callable[[], Any]
  ) -> tuple[jax.Array | None, list[jax.Array] | None]:
    """The ratios and shares that are due after this step, on the device."""
    moved = dead = None
    if self._before is not None:
      moved = self._movement.ratios(self._before, self._movement.sample(params()))
      self._before = None
    if (step + 1) % self._every == 0 and step + 1 < self._experiment.steps:
      self._movement = self._movement or self._first_movement()
      if self._movement.names:  # with adapters alone no weight of its own is trained
        self._before = self._movement.sample(params())
    if step % self._every == 0:
      self._units = self._units or self._first_units()
      if self._units.applies:
        dead = self._units.dead(params(), self._program.place(rows, self._experiment.batch_size))
    return moved, dead

  def _first_movement(self) -> Movement:
    program = self._program
    return Movement(self._experiment, program.abstract.params, program.layout.replicated)

  def _first_units(self) -> Units:
    layout, params = self._program.layout, self._program.abstract.params
    batch = update.abstract_batch(self._experiment)
    return Units(self._experiment, layout.mesh.size, params, batch, layout.replicated)


def _mean(measured: Any) -> float:
  """Divided on the host: each operation on the device would cost as much as the rest."""
  return float(measured.total) / (float(measured.weight) or 1.0)


class _Pending(NamedTuple):
  step: int
  measured: Mapping[str, Any]
  moved: jax.Array | None
  dead: list[jax.Array] | None
