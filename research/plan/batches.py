"""The shapes of an experiment's batches, without its data."""

from __future__ import annotations

import jax

from research import update
from research.experiment import Experiment


def abstract(experiment: Experiment) -> dict[str, jax.ShapeDtypeStruct]:
  """The shapes of a global batch.

  A dataset that can say what its examples look like (`example()`) is not opened; of another one,
  one example is read.
  """
  rows = experiment.batch_size
  if not hasattr(experiment.data, "example"):
    return update.abstract_batch(experiment.data.source("train"), rows)
  return {
    name: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype)
    for name, x in experiment.data.example().items()
  }
