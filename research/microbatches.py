"""How many microbatches a batch is cut into, so that a step needs no more memory than it may."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from research.errors import UserError
from research.experiment import Experiment

GIB = 2**30


def fewest(experiment: Experiment, compiled: Callable[[Experiment], Any], rows: int) -> Experiment:
  """The experiment cut as little as its `memory_target` allows; itself where it has none.

  The compiler is asked, not a formula: each try is a compilation, and the one that fits is kept in
  JAX's cache for the run.

  Args:
    experiment: its `microbatches` are where the search begins.
    compiled: the training step of an experiment, compiled.
    rows: devices that share the rows of a microbatch.

  Raises:
    UserError: the step needs more however it is cut; the least that was found is told.
  """
  if experiment.memory_target is None:
    return experiment
  found = {}
  for n in range(experiment.microbatches, experiment.batch_size // rows + 1):
    if experiment.batch_size % (n * rows):
      continue
    cut = dataclasses.replace(experiment, microbatches=n)
    found[n] = bytes_needed(compiled, cut) / GIB
    if found[n] <= experiment.memory_target:
      return cut
  n, least = min(found.items(), key=lambda item: item[1], default=(experiment.microbatches, 0.0))
  raise UserError(
    f"memory_target={experiment.memory_target:g} GiB: a step of {experiment.name} needs at least "
    f"{least:.2f} GiB on each device, with {n} microbatches; try model.remat=full, more devices "
    "under sharding.mesh.fsdp, or a larger target."
  )


def bytes_needed(compiled: Callable[[Experiment], Any], experiment: Experiment) -> float:
  """Of one device, at the step's peak; infinite where the compiler itself says that it is full."""
  try:
    memory = compiled(experiment).memory_analysis()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return float("inf")
  whole = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
  return max(whole + memory.temp_size_in_bytes, getattr(memory, "peak_memory_in_bytes", 0))
