"""What an experiment costs: its step compiled, and three of them taken, in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from multiprocessing.connection import Connection

from research import secrets
from research.errors import reason
from research.experiment import Experiment
from research.load import Recipe
from research.sweep.shares import Share
from research.sweep.worker import heed_runner

STEPS = 3


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of one run.

  Attributes:
    parameters: of the model.
    flops: of all steps.
    memory: bytes of a device at a step's peak, by the compiler.
    compile_seconds: until the first step can be taken.
    step_seconds: the median of three steps.
    train_seconds: of all steps; evaluations and saves are not counted.
    error: why nothing of this is known, or "".
  """

  parameters: float = math.nan
  flops: float = math.nan
  memory: float = math.nan
  compile_seconds: float = math.nan
  step_seconds: float = math.nan
  train_seconds: float = math.nan
  error: str = ""

  @property
  def seconds(self) -> float:
    """Of the run, without evaluations and saves."""
    return self.compile_seconds + self.train_seconds


def work(recipe: Recipe, name: str, share: Share, answer: Connection) -> None:
  """Measures an experiment in a share of the machine, and sends its `Cost`; writes nothing."""
  with contextlib.suppress(PermissionError):
    os.setsid()
  share.take()
  heed_runner()
  with open(os.devnull, "w") as nowhere:
    for stream in (1, 2):
      os.dup2(nowhere.fileno(), stream)
  try:
    experiments = {experiment.name: experiment for experiment in recipe.experiments()}
    cost = measured(experiments[name])
  except Exception as error:  # whatever is wrong with it stands in its row
    cost = Cost(error=secrets.redact(reason(error).removeprefix("UserError: ")))
  answer.send(dataclasses.asdict(cost))


def measured(experiment: Experiment) -> Cost:
  """The cost of an experiment that has an optimizer, measured here.

  Raises:
    UserError: its parts do not go together, or its data cannot be read.
  """
  import jax

  from research import fitting, flops, memory, microbatches, preflight, update
  from research.data import pipeline

  if experiment.optimizer is None:
    return Cost(error="it is counted in one go")
  memory.keep()
  preflight.together(experiment)
  begun = time.perf_counter()
  experiment, program = fitting.program(experiment)
  batch = update.abstract_batch(experiment)
  step, state = update.compiled_step(program, batch), program.init()
  compile_seconds = time.perf_counter() - begun
  batches = pipeline.batches(
    experiment.data.source("train"), experiment.batch_size, seed=experiment.seed
  )
  seconds = []
  for _ in range(STEPS + 1):  # the first one warms caches
    begun = time.perf_counter()
    state, told = step(
      state, program.place(next(batches), experiment.batch_size), *program.step.given
    )
    jax.block_until_ready((state, told))
    seconds.append(time.perf_counter() - begun)
  step_seconds = sorted(seconds[1:])[STEPS // 2]
  return Cost(
    parameters=sum(x.size for x in jax.tree.leaves(program.abstract.params)),
    flops=flops.of_training(experiment, batch) * experiment.steps,
    memory=microbatches.bytes_needed(lambda _: step, experiment),
    compile_seconds=compile_seconds,
    step_seconds=step_seconds,
    train_seconds=step_seconds * experiment.steps,
  )
