"""How much of a sweep's outcome each field explains: a one-way split of its variance.

For each field alone, runs are put together by its value (numbers of many values by quartile). The
share of the variance between those groups, less what groups of that many runs share by luck, is
epsilon squared (Kelley 1935): about 0 for a field that does nothing, 1 for one that decides all.
Fields that act only together show in none of them; a grid or random draws keep fields apart, a
search that follows its finds does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

QUARTILES = 6  # different numbers from which on a field is split by quartile


def explained(values: Sequence[Any], outcomes: np.ndarray) -> float:
  """The share of the variance of `outcomes` (runs,) that a field's `values` explain, 0 to 1.

  NaN where there is nothing to split: outcomes all alike, one group, or each run its own.
  """
  groups = _split(values)
  names = sorted(set(groups))
  total = float(((outcomes - outcomes.mean()) ** 2).sum())
  runs = len(outcomes)
  if not total or not 1 < len(names) < runs:
    return math.nan
  groups = np.array(groups)
  within = sum(
    float(((outcomes[groups == name] - outcomes[groups == name].mean()) ** 2).sum())
    for name in names
  )
  noise = within / (runs - len(names))
  return max(0.0, (total - within - (len(names) - 1) * noise) / total)


def ranked(fields: Mapping[str, Sequence[Any]], outcomes: np.ndarray) -> list[tuple[str, float]]:
  """Fields with what they explain, the most first; those with nothing to split are last."""
  shares = [(name, explained(values, outcomes)) for name, values in fields.items()]
  return sorted(shares, key=lambda item: math.inf if math.isnan(item[1]) else -item[1])


def number(value: Any) -> float:
  """A field's value as a number, NaN where it is none; True and False are names."""
  try:
    return math.nan if isinstance(value, bool) else float(value)
  except (TypeError, ValueError):
    return math.nan


def _split(values: Sequence[Any]) -> list[int]:
  numbers = np.array([number(value) for value in values])
  if np.isfinite(numbers).all() and len(set(numbers)) >= QUARTILES:
    return list(np.searchsorted(np.quantile(numbers, (0.25, 0.5, 0.75)), numbers))
  names = sorted(set(map(str, values)))
  return [names.index(str(value)) for value in values]
