"""The steps that were not taken: told, written down for a look at them, and counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from research.data import pipeline
from research.errors import NumericsError
from research.guard import Guard, Statistics

FOLDER = "skipped"  # in the run folder
MOST = 50  # batches that are written down


class Skipped:
  """Follows the steps of a run and what they left.

  Like the log it reads a step's measurements once the next was dispatched, so that the device need
  not wait for the host.
  """

  def __init__(
    self,
    guard: Guard,
    folder: Path,
    say: Callable[[str], None],
    *,
    begun: Statistics,
    last: int,
    step: int = 0,
  ):
    """Goes on from what the state of a run says.

    Args:
      guard: how many steps may be skipped.
      folder: for their batches; made when it is needed.
      say: shows a line.
      begun: the statistics in the state that the run goes on from.
      last: the step with which the run ends, which is waited for.
      step: that the run goes on from.
    """
    self._guard, self._folder, self._say, self._last = guard, folder, say, last
    self._in_a_row, self._rollbacks = int(begun.skipped), int(begun.rollbacks)
    self._newest = step
    self._pending: _Step | None = None

  def too_many(
    self,
    step: int,
    measured: Mapping[str, Any],
    batch: pipeline.Batch,
    examples: Callable[[], tuple[np.ndarray, np.ndarray]],
  ) -> bool:
    """Takes a step that was just dispatched; says whether the run is to go back.

    Args:
      step: updates with this one.
      measured: its Metrics, with "loss", "gradient_norm" and "skipped".
      batch: the rows of it that this process read.
      examples: () -> their epochs and numbers, see `pipeline.examples`.

    Raises:
      NumericsError: it has gone back as often as it may.
    """
    self.settle()
    self._pending = _Step(step, measured, batch, examples)
    if step == self._last:
      self.settle()
    if self._in_a_row < self._guard.tries:
      return False
    if self._rollbacks == self._guard.rollbacks:
      raise NumericsError(
        f"{self._in_a_row} steps in a row were not taken, the last of them {self._newest}: loss or "
        f"gradient was not finite, or a spike; their batches are in {self._folder}. Lower the "
        "learning rate, clip the gradient, or look at the data; the same command goes on from the "
        "last checkpoint."
      )
    self._rollbacks += 1
    self._in_a_row, self._pending = 0, None
    return True

  def settle(self) -> None:
    """Reads the newest step; it waits for the device."""
    if self._pending is None:
      return
    pending, self._pending = self._pending, None
    if not pending.measured["skipped"].total > 0:
      self._in_a_row = 0
      return
    self._in_a_row, self._newest = self._in_a_row + 1, pending.step
    values = {name: float(pending.measured[name].mean()) for name in ("loss", "gradient_norm")}
    place = self._write(pending, values)
    self._say(
      f"warning: step {pending.step} was not taken (loss {values['loss']:.4g}, gradient norm "
      f"{values['gradient_norm']:.4g}); {place}"
    )

  def _write(self, pending: _Step, values: dict[str, float]) -> str:
    """The batch with its examples' numbers as an .npz; says where, or why not."""
    several = jax.process_count() > 1
    name = f"step-{pending.step}{f'-process-{jax.process_index()}' if several else ''}.npz"
    try:
      self._folder.mkdir(exist_ok=True)
      if len(list(self._folder.iterdir())) >= MOST:
        return f"{self._folder} holds {MOST} batches already"
      epochs, numbers = pending.examples()
      batch = {f"batch/{key}": value for key, value in pending.batch.items()}
      with open(self._folder / name, "wb") as file:
        np.savez(file, epochs=epochs, numbers=numbers, **values, **batch)
    except OSError as error:
      return f"its batch cannot be written: {error.strerror}"
    return f"its batch is in {self._folder / name}"


class _Step(NamedTuple):
  step: int
  measured: Mapping[str, Any]
  batch: pipeline.Batch
  examples: Callable[[], tuple[np.ndarray, np.ndarray]]
