"""A search for the numbers with which an experiment does best; Optuna chooses them.

An experiment file declares it, beside a function that takes a trial (Akiba et al., 2019):

  SEARCH = Search(metric="heldout.loss", sampler="tpe", pruner="median")

  def search(trial):
    rate = trial.suggest_float("rate", 1e-4, 1e-2, log=True)
    return override(experiment(), {"optimizer.learning_rate.peak": rate})

  research sweep FILE:search --trials 40 --workers 4

Each trial is an ordinary run of that function with a knob: `trial={'number': 7, 'rate': 0.003}`.
So what a search leaves behind can be resumed, sampled and compared, and asks for no Optuna.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from research.errors import UserError, nearest, shown
from research.experiment import Experiment

TRIAL = "trial"  # the knob
SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("median", "halving", None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
  """What is searched for, and how; a file declares it as `SEARCH`.

  Attributes:
    metric: "<evaluation>.<value>", as evaluations write them: what a run has in the end.
    lower: whether less is better.
    sampler: what chooses: "tpe" (Bergstra et al., 2011), "random", or "grid", all combinations of
      what is categorical or has a step. Or a sampler of Optuna's.
    pruner: what ends a run early, judged at each of its evaluations: "median", where the median of
      the others there is better; "halving" (Li et al., 2018), all but the best quarter at steps
      that grow; None, nothing. Or a pruner of Optuna's.
    seed: of what is drawn; one worker alone draws the same again.
  """

  metric: str
  lower: bool = True
  sampler: Any = "tpe"
  pruner: Any = None
  seed: int = 0

  def __post_init__(self):
    if not all(self.metric.partition(".")):
      raise UserError(
        f"Search(metric={self.metric!r}) is no measure of an evaluation; write it as "
        "'heldout.loss'."
      )
    for field, words in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
      value = getattr(self, field)
      if value not in words if isinstance(value, str | None) else isinstance(value, type):
        raise UserError(
          f"Search({field}={shown(value)}): write one of {', '.join(map(str, words))}, or one of "
          f"Optuna's, made.{nearest(str(value), [str(word) for word in words])}"
        )

  @property
  def evaluation(self) -> tuple[str, str]:
    """The name of the evaluation and of its value."""
    name, _, value = self.metric.partition(".")
    return name, value


class Chosen:
  """A trial whose numbers are known: asked for them as one of Optuna's, it gives these."""

  def __init__(self, values: Mapping[str, Any]):
    """Takes the trial's "number", and what was chosen by name."""
    self.params = dict(values)
    self.number = self.params.pop("number", 0)

  def suggest_float(
    self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
  ) -> float:
    return float(self._between(name, low, high))

  def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
    return int(self._between(name, low, high))

  def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
    value = self._value(name)
    if value not in choices:
      raise UserError(f"trial: {name}={shown(value)} is none of {shown(list(choices))}.")
    return value

  def _value(self, name: str) -> Any:
    if name not in self.params:
      raise UserError(
        f"trial={shown(self.params)} does not say {name!r}, which the function asks for."
        f"{nearest(name, self.params)}"
      )
    return self.params[name]

  def _between(self, name: str, low: float, high: float) -> float:
    value = self._value(name)
    if not isinstance(value, int | float) or not low <= value <= high:
      raise UserError(f"trial: {name}={shown(value)} is not between {low} and {high}.")
    return value


class Grid:
  """A trial that notes all that could be chosen, and chooses the first of everything.

  Attributes:
    space: the values by name.
  """

  number = 0

  def __init__(self):
    self.space: dict[str, list[Any]] = {}

  def suggest_float(
    self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
  ) -> float:
    if step is None:
      raise UserError(
        f"a grid has no end of values of {name!r} between {low} and {high}: give suggest_float a "
        "step, or suggest_categorical the values."
      )
    count = int((high - low) / step + 1e-9) + 1
    return self._first(name, [min(low + i * step, high) for i in range(count)])  # 3 * 0.1 > 0.3

  def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
    return self._first(name, list(range(low, high + 1, step)))

  def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
    return self._first(name, list(choices))

  def _first(self, name: str, values: list[Any]) -> Any:
    return self.space.setdefault(name, values)[0]


class Written(dict):
  """What was chosen for a trial; as text it goes between single quotes, where a shell reads it."""

  def __str__(self) -> str:
    parts = (
      f'"{name}": {json.dumps(value) if isinstance(value, str) else repr(value)}'
      for name, value in self.items()
    )
    return f"{{{', '.join(parts)}}}"


def declared(function: Any) -> Search:
  """The `SEARCH` of the file in which a function stands; UserError where there is none."""
  found = vars(sys.modules[function.__module__]).get("SEARCH")
  if not isinstance(found, Search):
    raise UserError(
      f"the file of {function.__name__}() declares no search; write into it, for example, "
      "SEARCH = Search(metric='heldout.loss')."
    )
  return found


def asked(knobs: Mapping[str, Any]) -> dict[str, Any]:
  """Knobs as a function takes them: a trial that was written down answers as one of Optuna's."""
  trial = knobs.get(TRIAL)
  return {**knobs, TRIAL: Chosen(trial)} if isinstance(trial, Mapping) else dict(knobs)


def numbered(experiment: Experiment, knobs: Mapping[str, Any]) -> Experiment:
  """The experiment named after its trial, where it is one: `<its name>/trial_7`."""
  if not hasattr(trial := knobs.get(TRIAL), "suggest_float"):
    return experiment
  return dataclasses.replace(experiment, name=f"{experiment.name}/trial_{trial.number}")
