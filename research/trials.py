"""Runs that differ in nothing but numbers of the optimizer and the seed, to be trained as one.

  def experiment():
    rates = {f"rate_{rate:g}": {"optimizer.learning_rate.peak": rate} for rate in (1e-3, 3e-3)}
    return Trials(base().vary(name, overrides) for name, overrides in rates.items())

One program then takes the steps of all of them (`side_by_side.py`). What is left behind is a folder
for each, as if it had been run by itself, and each of them can go on by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from research.errors import UserError, shown
from research.experiment import Experiment

NUMBERS, SEED = "optimizer.", "seed"  # what may differ


@dataclasses.dataclass(frozen=True)
class Trials:
  """Experiments of one shape, which one program trains side by side.

  Where all seeds are the same, so are the batches, and each is read once. On several devices the
  mesh axis `trial` splits them: `Sharding({"trial": 4, "data": -1})`.

  Attributes:
    experiments: in the order in which they stand; as `research.arms` and `Experiment.vary` give
      them.

  Raises:
    UserError: they differ in something else, which is named; or there are none.
  """

  experiments: tuple[Experiment, ...]

  def __init__(self, experiments: Iterable[Experiment]):
    object.__setattr__(self, "experiments", tuple(experiments))
    differing(self.experiments)


def differing(experiments: tuple[Experiment, ...]) -> dict[str, np.ndarray]:
  """The numbers of the optimizer in which experiments differ, by dotted path: (K,) float32.

  Raises:
    UserError: they differ in something else, or there are none.
  """
  if not experiments:
    raise UserError("Trials() of no experiment; give at least one.")
  for item in experiments:
    if not isinstance(item, Experiment):
      raise UserError(f"Trials are of experiments, not of {shown(item)}.")
  if experiments[0].optimizer is None:
    raise UserError(f"{experiments[0].name} is counted, not trained; let it run by itself.")
  told = [item.describe() for item in experiments]
  found = {}
  for path in dict.fromkeys(path for description in told for path in description):
    texts = [description.get(path, "(none)") for description in told]
    if path in ("name", SEED) or len(set(texts)) == 1:
      continue
    values = [_at(item, path) for item in experiments] if path.startswith(NUMBERS) else []
    # All whole, it is a count, such as that of warmup steps, on which the shape of a program hangs.
    whole = all(isinstance(value, int) for value in values)
    if whole or not all(type(value) in (int, float) for value in values):
      first = texts[0]
      at, other = next((i, text) for i, text in enumerate(texts) if text != first)
      raise UserError(
        f"Trials: {experiments[0].name} has {path}={first}, {experiments[at].name} has {other}. "
        "One program trains what differs in the seed and in fractions of the optimizer alone; "
        "yield these as experiments of their own."
      )
    found[path] = np.array(values, np.float32)
  return found


def with_numbers(experiment: Experiment, numbers: Mapping[str, Any]) -> Experiment:
  """The experiment with these values at dotted paths, which may be known to a program alone."""
  for path, value in numbers.items():
    experiment = _put(experiment, path.split("."), value)
  return experiment


def _at(value: Any, path: str) -> Any:
  """What stands at a dotted path, None where there is none."""
  for name in path.split("."):
    value = getattr(value, name, None)
  return value


def _put(value: Any, path: list[str], new: Any) -> Any:
  name, *rest = path
  part = _put(getattr(value, name), rest, new) if rest else new
  return dataclasses.replace(value, **{name: part})
