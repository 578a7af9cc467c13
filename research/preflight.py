"""What is asked of an experiment before anything is read, compiled or written.

`parts` looks at each part by itself and costs nothing; `together` asks whether they go together on
the devices that are here, from shapes alone.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

from research.errors import UserError, shown
from research.experiment import Experiment, check_field, fields

LARGEST = 2**31 - 1  # steps and sizes are counted in int32 on the devices
SEEDS = 2**63


def parts(experiment: Experiment) -> None:
  """Raises a UserError for a part of another kind, or a number that is none or out of its range."""
  counted = experiment.optimizer is None
  needs = {
    "data": ("source", "a dataset, such as data.Text(...)"),
    "model": ("fit", "a counted model, since there is no optimizer: models.NGram(...), or give one")
    if counted
    else ("apply", "a model, such as models.GPT(...)"),
    "samples": ("write", "Samples(...)"),
    "optimizer": ("build", "an optimizer, such as optim.AdamW(...)"),
  }
  for name, (method, wanted) in needs.items():
    _kind(
      name, getattr(experiment, name), method, wanted, optional=name in ("samples", "optimizer")
    )
  for field, method, wanted in (
    ("evals", "measure", "Eval(objective)"),
    ("baselines", "fit", "a counted model, such as models.NGram(...)"),
  ):
    named = getattr(experiment, field)
    if not isinstance(named, Mapping):
      raise UserError(f"{field}={shown(named)} must be a dict, as {{'name': {wanted}}}.")
    for name, part in named.items():
      _kind(f"{field}.{name}", part, method, wanted)
  objective = experiment.objective
  if not counted and (not callable(objective) or isinstance(objective, type)):
    raise UserError(
      f"objective={shown(objective)} is no objective: write one such as objectives.NextToken()."
    )
  _numbers("", experiment)


def _kind(path: str, part: Any, method: str, wanted: str, *, optional: bool = False) -> None:
  if optional and part is None:
    return
  if isinstance(part, type):
    raise UserError(f"{path}={part.__name__} is a class; call it: {part.__name__}(...).")
  if not callable(getattr(part, method, None)):
    said = shown(part) if fields(part) is None else f"{type(part).__name__}(...)"
    raise UserError(f"{path}={said} is of another kind; it must be {wanted}.")


def _numbers(path: str, value: Any) -> None:
  """Every plain number and word in a value: of the type that its field names, finite, not huge."""
  named = fields(value)
  if named is None:
    for number in value if isinstance(value, tuple | list) else (value,):
      _number(path, number)
    return
  for name, part in named.items():
    inside = f"{path}.{name}" if path else name
    check_field(value, name, part, inside)
    _numbers(inside, part)


def _number(path: str, value: Any) -> None:
  if not isinstance(value, numbers.Real) or isinstance(value, bool):
    return
  if not math.isfinite(value):
    raise UserError(
      f"{path}={value} is no finite number; give one, or None where that is a choice."
    )
  if abs(value) >= SEEDS or (path == "steps" and value > LARGEST):
    largest = LARGEST if path == "steps" else SEEDS - 1
    raise UserError(f"{path}={shown(value)} is beyond what can be counted; at most {largest}.")
