"""What a check has to say: one row, with the difference that it measured and what it may be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

EQUAL = 3e-5  # float32 sums in another order, relative to the largest value
SMALL = 1e-2  # a parameter's gradient is measured against at least this share of the largest

HOLDS, BROKEN, NOT_CHECKED = "holds", "BROKEN", "not checked"
DOES_NOT_APPLY = "does not apply"


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the table.

  Attributes:
    part: of the check, for example the mesh.
    difference: the largest that was found; None where nothing was measured.
    budget: what it may be, as text.
    verdict: one of the four words above.
    note: where the difference is, or why nothing was measured.
  """

  part: str
  difference: float | None = None
  budget: str = ""
  verdict: str = HOLDS
  note: str = ""


class DoesNotApply(Exception):
  """The experiment has nothing that this check is about; the message says what is missing."""


def within(part: str, difference: float, budget: float, note: str) -> Row:
  """Holds where the difference is in the budget; NaN is in none. The note tells what broke."""
  holds = difference <= budget
  verdict = HOLDS if holds else BROKEN
  return Row(part, float(difference), said(budget), verdict, "" if holds else note)


def said(number: float) -> str:
  """A budget or a difference as the table shows it."""
  return f"{number:.1e}" if number else "0"


def furthest(
  found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]
) -> tuple[float, str]:
  """The largest difference of two sets of arrays, relative to the largest value, and its name.

  Each array is measured against its own largest value, or `SMALL` of the largest of all where it
  is nearly zero. Names or shapes that differ, and NaN, are infinitely far.
  """
  if unlike := set(found) ^ set(wanted):
    return math.inf, min(unlike)
  largest = max((_largest(x) for x in wanted.values()), default=0.0)
  worst = (0.0, "")
  for name, x in wanted.items():
    y = found[name]
    if x.shape != y.shape:
      return math.inf, name
    scale = max(_largest(x), SMALL * largest)
    error = _largest(np.asarray(y, np.float64) - np.asarray(x, np.float64))
    far = error / scale if scale else error
    worst = max(worst, (math.inf if math.isnan(far) else far, name))
  return worst


def _largest(x: np.ndarray) -> float:
  return float(np.max(np.abs(x), initial=0.0))
