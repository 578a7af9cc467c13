"""Learning rates over the course of training: frozen values with `.build(steps) -> optax.Schedule`.

Updates are counted as i = 0, 1, ..., steps - 1. One convention holds for every schedule:

  warmup  Update i uses peak * (i + 1) / warmup, so the first one already moves and update
          warmup - 1 is the first at the peak. (Counted from 1 as in the papers: peak * t / warmup.)
  decay   Begins at the peak and would reach `final` at i = steps, just after the last update, so
          that no update is spent at a rate of zero. Later updates keep the last rate.
"""

import dataclasses
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array

from research.errors import UserError


class Schedule(Protocol):
  """Hyperparameters of a learning rate."""

  def build(self, steps: int) -> optax.Schedule:
    """(i) -> the learning rate of update i, float32; traceable. Raises UserError."""


@dataclasses.dataclass(frozen=True)
class Constant:
  """`value` throughout, after an optional warmup. A plain number as a learning rate is this."""

  value: float
  warmup: int = 0

  def build(self, steps: int) -> optax.Schedule:
    _check(steps, self.warmup, value=self.value)
    return lambda i: self.value * _warmth(i, self.warmup)


@dataclasses.dataclass(frozen=True)
class Linear:
  """Warmup to `peak`, then a straight line to `final` (Devlin et al., 2018: BERT)."""

  peak: float
  warmup: int
  final: float = 0.0

  def build(self, steps: int) -> optax.Schedule:
    _check(steps, self.warmup, peak=self.peak, final=self.final)

    def rate(i):
      decayed = self.peak + (self.final - self.peak) * _progress(i, self.warmup, steps)
      return decayed * _warmth(i, self.warmup)

    return rate


@dataclasses.dataclass(frozen=True)
class Cosine:
  """Warmup to `peak`, then half a cosine to `final` (Loshchilov & Hutter, 2017, equation 5)."""

  peak: float
  warmup: int
  final: float = 0.0

  def build(self, steps: int) -> optax.Schedule:
    _check(steps, self.warmup, peak=self.peak, final=self.final)

    def rate(i):
      fall = 0.5 * (1 + jnp.cos(math.pi * _progress(i, self.warmup, steps)))
      decayed = self.final + (self.peak - self.final) * fall
      return decayed * _warmth(i, self.warmup)

    return rate


@dataclasses.dataclass(frozen=True)
class InverseSquareRoot:
  """Warmup, then a fall with the root of the number of updates (Vaswani et al., 2017, section 5.3).

  With `width` given, the paper's width^-0.5 * min(t^-0.5, t * warmup^-1.5), t = i + 1; its peak
  is (width * warmup)^-0.5. With `peak` given, the same curve of that height. One of the two.
  """

  warmup: int
  width: int | None = None
  peak: float | None = None

  def build(self, steps: int) -> optax.Schedule:
    if (self.width is None) == (self.peak is None):
      raise UserError(
        f"InverseSquareRoot(width={self.width}, peak={self.peak}): give exactly one of width, "
        "which sets the paper's peak, and peak."
      )
    if self.warmup < 1:
      raise UserError(f"warmup={self.warmup}: the rate is infinite without one; give at least 1.")
    if self.peak is None and self.width < 1:
      raise UserError(f"InverseSquareRoot(width={self.width}): the model's width is at least 1.")
    peak = (self.width * self.warmup) ** -0.5 if self.peak is None else self.peak
    _check(steps, self.warmup, peak=peak)

    def rate(i):
      t = _float(i) + 1
      return peak * jnp.minimum(jnp.sqrt(self.warmup / t), t / self.warmup)

    return rate


@dataclasses.dataclass(frozen=True)
class WarmupStableDecay:
  """Warmup to `peak`, stay, and fall in a straight line to `final` (Hu et al., 2024, section 4).

  Attributes:
    decay: the part of all updates that the fall takes, in (0, 1].
  """

  peak: float
  warmup: int
  decay: float
  final: float = 0.0

  def build(self, steps: int) -> optax.Schedule:
    _check(steps, self.warmup, peak=self.peak, final=self.final)
    known = not traced(self.decay)
    start = steps - (round if known else jnp.round)(self.decay * steps)
    if known and (not 0 < self.decay <= 1 or not self.warmup <= start < steps):
      raise UserError(
        f"decay={self.decay} of steps={steps} after warmup={self.warmup}: the fall takes at least "
        f"one update and at most {steps - self.warmup}; choose decay up to "
        f"{(steps - self.warmup) / steps:.3g}."
      )

    def rate(i):
      fallen = self.peak + (self.final - self.peak) * _progress(i, start, steps)
      return fallen * _warmth(i, self.warmup)

    return rate


def learning_rate(optimizer: Any, steps: int, step: int | Array) -> Array:
  """The rate of update `step` (from 0) of `steps` by an optimizer of this package; traceable."""
  return jnp.asarray(schedule(optimizer.learning_rate).build(steps)(step))


def schedule(rate: float | Schedule) -> Schedule:
  """A number stands for the constant; UserError for what is neither number nor schedule."""
  if traced(rate) or (isinstance(rate, int | float) and not isinstance(rate, bool)):
    return Constant(rate)
  if not hasattr(rate, "build"):
    raise UserError(
      f"learning_rate={rate!r} is neither a number nor a schedule; "
      "write 3e-4, or optim.Cosine(3e-4, warmup=100)."
    )
  return rate


def traced(value: Any) -> bool:
  """Whether only the running program knows a number: who gives it so has seen to its range."""
  return isinstance(value, jax.core.Tracer)


def _check(steps: int, warmup: int, **rates: float) -> None:
  if steps < 1:
    raise UserError(f"steps={steps}: a schedule spans at least 1 update.")
  if warmup < 0:
    raise UserError(f"warmup={warmup}: it is a number of updates; give 0 for none.")
  if warmup >= steps:
    raise UserError(
      f"warmup={warmup} leaves nothing of steps={steps}; choose a warmup below {steps}, or more "
      "steps (a shortened run overrides both: steps=... optimizer.learning_rate.warmup=...)."
    )
  for name, value in rates.items():
    if not traced(value) and not 0 <= value < math.inf:
      raise UserError(f"{name}={value!r}: a learning rate is a finite number, at least 0.")


def _float(i: int | Array) -> Array:
  return jnp.asarray(i, jnp.float32)  # exact up to 16 million updates


def _warmth(i: int | Array, warmup: int) -> Array:
  """From 1 / warmup at i = 0 to 1."""
  return jnp.minimum(1.0, (_float(i) + 1) / max(warmup, 1))


def _progress(i: int | Array, start: int, steps: int) -> Array:
  """From 0 at i = start to 1 at i = steps."""
  return jnp.clip((_float(i) - start) / (steps - start), 0.0, 1.0)
