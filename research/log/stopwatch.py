"""Where a run's time goes: into compiling, into steps, into everything beside training."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator

import jax


@dataclasses.dataclass(frozen=True)
class Work:
  """Steps, and what they took: seconds, tokens, operations, seconds of waiting for data."""

  steps: int = 0
  seconds: float = 0.0
  tokens: int = 0
  flops: float = 0.0
  data_wait: float = 0.0

  def __add__(self, other: Work) -> Work:
    return Work(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other))))

  def rates(self, peak_flops: float | None) -> dict[str, float]:
    """tokens_per_second, peak_share, data_wait_share; what is not known is left out."""
    if not self.steps or self.seconds <= 0:
      return {}
    rates = {"tokens_per_second": self.tokens / self.seconds}
    if self.flops and peak_flops:
      rates["peak_share"] = self.flops / self.seconds / peak_flops
    return {**rates, "data_wait_share": min(self.data_wait / self.seconds, 1.0)}


class Stopwatch:
  """Measures one stretch of a run.

  Attributes:
    compile_seconds: until the first step was ready (or of pauses named "compile"), then set.
    pauses: seconds by what the pause was for.
    first_ready: when the first step was ready.
  """

  def __init__(self, clock: Callable[[], float] = time.monotonic):
    self.clock = clock
    self.began = self._mark = clock()
    self.first_ready: float | None = None
    self.compile_seconds: float | None = None
    self.pauses: dict[str, float] = {}
    self._interval = self._before = Work()

  @property
  def seconds(self) -> float:
    """Since the beginning."""
    return self.clock() - self.began

  @property
  def total(self) -> Work:
    """The work of all steps but the first."""
    return self._before + self._interval

  def ready(self, *, tokens: int, flops: float, data_wait: float) -> None:
    """A step is done. The first one compiles: its time says nothing about the others."""
    now = self.clock()
    if self.first_ready is None:
      self.first_ready = now
      self.compile_seconds = self.pauses.get("compile", now - self._mark)
    else:
      self._interval += Work(1, now - self._mark, tokens, flops, data_wait)
    self._mark = now

  @contextlib.contextmanager
  def pause(self, what: str) -> Iterator[None]:
    """Time that is not of the steps."""
    began = self.clock()
    if self.first_ready is not None:
      self._interval += Work(seconds=began - self._mark)
    try:
      yield
    finally:
      self._mark = self.clock()
      self.pauses[what] = self.pauses.get(what, 0.0) + self._mark - began

  def lap(self) -> Work:
    """The work since the last lap."""
    lap, self._before, self._interval = self._interval, self.total, Work()
    return lap

  def left(self, done: int, more: int) -> float | None:
    """Seconds that `more` steps will take, pauses included, after `done` in this stretch."""
    if self.first_ready is None or done < 2:
      return None
    return (self.clock() - self.first_ready) / (done - 1) * more


def peak_memory() -> int | None:
  """Bytes: the most that the first device held, or this process where devices do not count."""
  statistics = jax.local_devices()[0].memory_stats() or {}
  if "peak_bytes_in_use" in statistics:
    return statistics["peak_bytes_in_use"]
  try:
    import resource
  except ModuleNotFoundError:  # Windows
    return None
  unit = 1 if os.uname().sysname == "Darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
