"""Evaluations: what a model scores on held-out data, as means with standard errors.

There are two kinds, and both give Metrics. One adds an objective up over batches, on the devices:
it has `measure(model)`, as `Eval`. The other has the model write or answer and looks at the texts:
it has `total(model, params, dataset, stopping)`, as those of `scores` and `answers`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from research import metrics as measure
from research.data import pipeline


@dataclasses.dataclass(frozen=True)
class Eval:
  """The mean of an objective over held-out examples, each counted once.

  Attributes:
    objective: (model, batch) -> Metrics; it sees no dropout key, so nothing is dropped.
    batches: how many batches; None for the whole split.
    every: steps between evaluations; None for a tenth of the run. The end is always evaluated.
    split: of the dataset.
    batch_size: examples at a time; None for the experiment's. The result does not depend on it.
  """

  objective: Callable[..., measure.Metrics]
  batches: int | None = None
  every: int | None = None
  split: str = "heldout"
  batch_size: int | None = None

  def measure(self, model: Any) -> Callable[[Any, Any], measure.Metrics]:
    """The function (params, batch) -> Metrics, to be jitted by the caller."""
    score = nn.apply(self.objective, model)
    return lambda params, batch: score({"params": params}, batch)


def total(
  measured: Callable[[Any, Any], measure.Metrics],
  params: Any,
  source: pipeline.Source,
  batch_size: int,
  *,
  batches: int | None = None,
  rows: np.ndarray | None = None,
  place: Callable[[Any, int], Any] = lambda batch, size: jax.device_put(batch),
  stopping: Callable[[], bool] = lambda: False,
) -> measure.Metrics | None:
  """Adds `measured` over the examples of `source` in order; totals are kept in float64.

  Args:
    measured: jitted (params, batch) -> Metrics.
    params: of the model.
    source: the examples.
    batch_size: over all processes.
    batches: how many batches, None for all.
    rows: of each batch, that this process reads; None for all.
    place: (batch, batch_size) -> the global batch on the devices; see `feed.place`.
    stopping: asked after every batch; where it says yes, the result is None.
  """
  totals: measure.Metrics = {}
  # One batch is in flight while the next is read: the host never waits for the device it feeds.
  pending = None
  for i, batch in enumerate(pipeline.epoch(source, batch_size, rows=rows)):
    if batches is not None and i >= batches:
      break
    current = measured(params, place(batch, batch_size))
    totals, pending = _add(totals, pending), current
    if stopping():
      return None
  return _add(totals, pending)


def _add(totals: measure.Metrics, new: measure.Metrics | None) -> measure.Metrics:
  if new is None:
    return totals
  host = jax.tree.map(lambda x: np.float64(jax.device_get(x)), new)
  return measure.add(totals, host) if totals else host
