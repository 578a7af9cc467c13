"""The tiny experiments as the faults meet them: slower, with batches that are known by name.

research run tests/faults/subject.py:gpt text=FILE steps=40 pause=0.01
research run tests/faults/subject.py:clip steps=40 pause=0.01
research sweep tests/faults/subject.py:seeds text=FILE steps=40 pause=0.01 count=3 --workdir DIR

Every line of the journal says which examples its step was made of, as `example_0`, `example_1`, ...
Where a run is at work is printed as "reached PLACE": opening, evaluation, and, if there is
something between steps, step, save or sample. `faulty` does harm to itself at such a place.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from research import Experiment, generate
from research.metrics import Mean
from tests import tiny_experiment
from tests.faults import runs, tiny_clip


def gpt(text: str, steps: int, pause: float):
  """`text` is a file; a batch takes `pause` seconds to read."""
  return _named(tiny_experiment.experiment(text, steps), pause)


def seeds(text: str, steps: int, pause: float, count: int):
  """So many of `gpt`, a sweep."""
  for seed in range(count):
    yield dataclasses.replace(gpt(text, steps, pause), name=f"tiny/seed_{seed}", seed=seed)


def clip(steps: int, pause: float):
  return _named(tiny_clip.experiment(steps), pause)


def sampling(text: str, steps: int, pause: float, every: int):
  """It also writes text every so many steps; what it comes to is what `gpt` comes to."""
  samples = generate.Samples(("to be",), tokens=24, every=every)
  return dataclasses.replace(gpt(text, steps, pause), samples=Announced(samples, every))


def faulty(text: str, steps: int, faults: str, workdir: str):
  """It does harm to itself, as often as it is started: `faults` are HARM:RANK:PLACE:TIMES,...

  That is, process RANK comes to harm when it has got to PLACE so often since it was started.
  """
  planted = Planted(faults.split(","), Path(workdir))
  experiment = gpt(text, steps, pause=0.0)
  return dataclasses.replace(
    experiment,
    data=dataclasses.replace(experiment.data, reach=planted),
    samples=Between(planted, workdir),
  )


@dataclasses.dataclass(frozen=True)
class Announce:
  """Says where the run is."""

  def __call__(self, place: str) -> None:
    print(f"reached {place}", file=sys.stderr, flush=True)


def _named(experiment: Experiment, pause: float) -> Experiment:
  return dataclasses.replace(
    experiment,
    data=Numbered(experiment.data, pause),
    objective=Naming(experiment.objective, experiment.batch_size),
  )


@dataclasses.dataclass(frozen=True)
class Numbered:
  """A dataset with the number of each example, over all epochs, as "example" (B,) int32."""

  data: Any
  pause: float
  reach: Callable[[str], None] = Announce()

  def prepare(self) -> Any:
    return self.data.prepare()

  def example(self) -> dict[str, np.ndarray]:
    return {**self.data.example(), "example": np.zeros(1, np.int32)}

  def source(self, split: str) -> NumberedSource:
    if split == "train":
      self.reach("opening")
    return NumberedSource(self.data.source(split), split, self)


class NumberedSource:
  def __init__(self, source: Any, split: str, dataset: Numbered):
    self.source, self.split, self.dataset = source, split, dataset

  def __len__(self) -> int:
    # Threads read; the loop itself asks for the length once, as an evaluation begins.
    if self.split == "heldout" and threading.current_thread() is threading.main_thread():
      self.dataset.reach("evaluation")
    return len(self.source)

  def take(self, indices: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
    time.sleep(self.dataset.pause)
    numbers = (epoch * len(self.source) + indices).astype(np.int32)
    return {**self.source.take(indices, epoch), "example": numbers}


@dataclasses.dataclass(frozen=True)
class Naming:
  """An objective that also measures which of `size` examples were in the batch."""

  objective: Callable[..., Any]
  size: int

  def __call__(self, model: Any, batch: dict[str, Any]) -> dict[str, Mean]:
    numbers = batch["example"].astype(jnp.float32)  # exact up to 2^24
    named = {f"example_{i}": Mean(numbers[i], jnp.ones(())) for i in range(self.size)}
    return {**self.objective(model, batch), **named}


@dataclasses.dataclass(frozen=True)
class Announced:
  """Samples that say when they begin."""

  samples: generate.Samples
  every: int

  def write(self, *args: Any, **named: Any) -> list[tuple[str, str]]:
    Announce()("sample")
    return self.samples.write(*args, **named)


@dataclasses.dataclass(frozen=True)
class Between:
  """In the place of samples, something that is done after every step, in the main thread."""

  reach: Callable[[str], None]
  workdir: str
  every: int = 1

  def write(self, *args: Any, **named: Any) -> list[tuple[str, str]]:
    self.reach("save" if runs.unfinished(Path(self.workdir)) else "step")
    return []


def _exception() -> None:
  raise RuntimeError("a fault that was planted")


def _stuck() -> None:
  while True:
    time.sleep(3600)


HARMS: dict[str, Callable[[], None]] = {
  "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
  "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
  "stuck": _stuck,
  "exception": _exception,
  "sigterm": lambda: os.kill(os.getpid(), signal.SIGTERM),
  "abort": os.abort,
}


class Planted:
  """Faults, one for each start, of which each happens once: files remember which have."""

  def __init__(self, faults: list[str], workdir: Path):
    marks = (runs.happened(workdir, i) for i in range(len(faults)))
    left = ((*fault.split(":"), mark) for fault, mark in zip(faults, marks) if not mark.exists())
    self.harm, self.rank, self.place, self.times, self.mark = next(left, (None,) * 5)
    self.seen: collections.Counter = collections.Counter()

  def __repr__(self) -> str:  # by which a run knows that its experiment is the same
    return "Planted"

  def __call__(self, place: str) -> None:
    self.seen[place] += 1
    here = os.environ.get("RESEARCH_PROCESS"), place, str(self.seen[place])
    if here == (self.rank, self.place, self.times):
      self.mark.touch()
      Announce()(f"{place} and {self.harm}")
      HARMS[self.harm]()
