"""An experiment and its program as training builds them, in microbatches that fit."""

from __future__ import annotations

from research import microbatches, update
from research.experiment import Experiment


def program(experiment: Experiment) -> tuple[Experiment, update.Program]:
  """The experiment, cut as its `memory_target` asks, and what updates it; no array is made.

  Raises:
    UserError: it does not fit the devices, or their memory, however it is cut.
  """
  batch, mesh = update.abstract_batch(experiment), experiment.sharding.make_mesh()
  experiment = microbatches.fewest(
    experiment,
    lambda cut: update.compiled_step(update.build(cut, mesh, batch), batch),
    rows=experiment.sharding.layout(mesh).parts("B"),
  )
  return experiment, update.build(experiment, mesh, batch)
