"""What keeps one bad batch from ruining a run: an update out of the ordinary is not made.

Loss and gradient norm are compared with their running mean and deviation over the steps that were
taken. The statistics are part of the state of training: resumed, a run judges as it would have.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Guard:
  """Which updates are not made, and when a run of them ends the training.

  A step whose loss or gradient is not finite never changes parameters or optimizer.

  Attributes:
    spike: a loss or gradient norm so many standard deviations above its running mean is not
      followed either (OLMo 2, section 3.3, has 6 over 128 steps); None follows all that are finite.
    window: of the running statistics, in steps; nothing is a spike before so many were taken.
    tries: steps in a row that may be skipped; after so many the run ends (exit code 4), or goes
      back.
    rollbacks: how often it goes back instead: to the newest checkpoint, past the batches since.
  """

  spike: float | None = None
  window: int = 128
  tries: int = 10
  rollbacks: int = 0

  def __post_init__(self):
    for field, least in (("window", 2), ("tries", 1), ("rollbacks", 0)):
      if getattr(self, field) < least:
        raise UserError(f"guard.{field}={getattr(self, field)} must be at least {least}.")
    if self.spike is not None and not self.spike > 0:
      raise UserError(f"guard.spike={self.spike} is in standard deviations and must be above 0.")

  def start(self) -> Statistics:
    """The statistics before the first step."""
    count, pair = jnp.zeros((), jnp.int32), jnp.zeros(2)
    return Statistics(
      count=count, mean=pair, variance=pair, skipped=count, passed=count, rollbacks=count
    )

  def judge(
    self, statistics: Statistics, loss: jax.Array, norm: jax.Array
  ) -> tuple[jax.Array, Statistics]:
    """Whether a step with this loss and gradient norm is to be taken, and the statistics then."""
    seen = jnp.stack([loss, norm]).astype(jnp.float32)
    taken = jnp.isfinite(seen).all()
    after = statistics.after(seen, self.window)
    if self.spike is not None:
      high = seen > statistics.mean + self.spike * jnp.sqrt(statistics.variance)
      taken &= ~(high.any() & (statistics.count >= self.window))
      # Above 1e19 a square is infinite, and a deviation that is infinite once would stay so.
      taken &= jnp.isfinite(after.variance).all()
    otherwise = dataclasses.replace(statistics, skipped=statistics.skipped + 1)
    return taken, jax.tree.map(lambda new, old: jnp.where(taken, new, old), after, otherwise)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics:
  """Of the steps that were taken: exponential means over a window, of loss and gradient norm.

  Attributes:
    count: steps, int32.
    mean, variance: (2,) float32.
    skipped: steps in a row that were not taken, up to now, int32.
    passed: batches that were passed over when the run went back, int32: the data is so far ahead.
    rollbacks: how often it went back, int32.
  """

  count: jax.Array
  mean: jax.Array
  variance: jax.Array
  skipped: jax.Array
  passed: jax.Array
  rollbacks: jax.Array

  def after(self, seen: jax.Array, window: int) -> Statistics:
    """With one more step; Welford's update, whose first `window` steps count alike."""
    count = self.count + 1
    share = 1 / jnp.minimum(count, window).astype(jnp.float32)
    difference = seen - self.mean
    return dataclasses.replace(
      self,
      count=count,
      mean=self.mean + share * difference,
      variance=(1 - share) * (self.variance + share * difference**2),
      skipped=jnp.zeros_like(self.skipped),
    )
