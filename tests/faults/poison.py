"""The tiny GPT on a text of which some batches are bad: their loss, or their gradient alone.

research run tests/faults/poison.py:experiment text=FILE steps=20 value=nan where=loss batches=7
"""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from research import Experiment, Guard, optim
from research.data import pipeline
from research.overrides import override
from research.retention import Keep
from tests import tiny_experiment

VALUES = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "spike": 1e6}
WARMUP, WINDOW = 6, 4  # steps of the learning rate, and of the guard's statistics
SPIKE = 50.0  # deviations; what the text itself does is far below


def experiment(
  text: str,
  steps: int,
  value: str,
  where: str,
  batches: tuple[int, ...],
  dtype="float32",
  tries=3,
  rollbacks=0,
  save_every=1,
  pause=0.0,
) -> Experiment:
  """`where` is "loss" or "gradient"; `batches` are numbers from 0 on, in the order of the data."""
  made = tiny_experiment.experiment(text, steps)
  return dataclasses.replace(
    override(made, {"model.dtype": dtype} if dtype != made.model.dtype else {}),
    data=Poisoned(made.data, batches, value, where, made.batch_size, made.seed, pause),
    objective=Exposed(made.objective),
    optimizer=optim.AdamW(optim.Cosine(1e-2, warmup=WARMUP), clip=1.0),
    average=0.9,
    evals={},
    guard=Guard(spike=SPIKE, window=WINDOW, tries=tries, rollbacks=rollbacks),
    save_every=save_every,
    keep=Keep(newest=steps),
  )


@dataclasses.dataclass(frozen=True)
class Poisoned:
  """A dataset with "poison" (B, 2) float32: what the loss gets more, its gradient is times what.

  That is (0, 1) but for one example of each of `batches`, of which `where` ("loss" or "gradient")
  gets `value` of `VALUES`.
  """

  data: Any
  batches: tuple[int, ...]
  value: str
  where: str
  batch_size: int
  seed: int
  pause: float = 0.0

  def prepare(self) -> Any:
    return self.data.prepare()

  def example(self) -> pipeline.Batch:
    return {**self.data.example(), "poison": np.zeros((1, 2), np.float32)}

  def source(self, split: str) -> pipeline.Source:
    return PoisonedSource(self, self.data.source(split))


class PoisonedSource:
  """See `Poisoned`; a batch takes `pause` seconds to read."""

  def __init__(self, dataset: Poisoned, source: pipeline.Source):
    self.dataset, self.source = dataset, source
    self.bad = set()
    for step in dataset.batches:
      epochs, numbers = pipeline.examples(source, dataset.batch_size, seed=dataset.seed, step=step)
      self.bad.add((int(epochs[3]), int(numbers[3])))

  def __len__(self) -> int:
    return len(self.source)

  def take(self, indices: np.ndarray, epoch: int) -> pipeline.Batch:
    time.sleep(self.dataset.pause)
    value = VALUES[self.dataset.value]
    poison = (value, 1.0) if self.dataset.where == "loss" else (0.0, value)
    bad = np.array([(epoch, int(i)) in self.bad for i in indices])
    poison = np.where(bad[:, None], poison, (0.0, 1.0)).astype(np.float32)
    return {**self.source.take(indices, epoch), "poison": poison}


@dataclasses.dataclass(frozen=True)
class Exposed:
  """An objective whose loss and gradient take what is in the batch."""

  objective: Callable[..., Any]

  def __call__(self, model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    measured = self.objective(model, batch)
    more = batch["poison"][:, 0].sum()
    times = batch["poison"][:, 1].prod()
    total = with_slope(measured["loss"].total + more, times)
    return {**measured, "loss": dataclasses.replace(measured["loss"], total=total)}


@jax.custom_vjp
def with_slope(total: jax.Array, times: jax.Array) -> jax.Array:
  """`total`, with `times` its gradient."""
  return total


with_slope.defvjp(lambda total, times: (total, times), lambda times, g: (g * times, None))
