"""The numbers of verdicts, as tables and pages tell them."""

from __future__ import annotations

import math

from research.claims import Verdict
from research.report.tables import MINUS, NONE


def signed(value: float) -> str:
  """+0.0123, or a dash where there is no number."""
  if not math.isfinite(value):
    return NONE
  return f"{value:+.3g}".replace("-", MINUS)


def interval(verdict: Verdict) -> str:
  """Both ends, or a dash."""
  if verdict.effect is None:
    return NONE
  return f"{signed(verdict.effect.low)} to {signed(verdict.effect.high)}"


def seen(verdict: Verdict) -> str:
  """The smallest effect that so many seeds could have seen."""
  return f"{verdict.detectable:.2g}" if math.isfinite(verdict.detectable) else NONE


def paper(verdict: Verdict) -> str:
  """The paper's own effect, with its unit where that is another."""
  if not math.isfinite(verdict.paper):
    return NONE
  return signed(verdict.paper) + (f" ({verdict.unit})" if verdict.unit else "")


def effect(verdict: Verdict) -> str:
  """What was measured."""
  return NONE if verdict.effect is None else signed(verdict.effect.estimate)


def by_luck(claims: int) -> str:
  """How many of so many claims would be called reproduced if none of them were true."""
  return (
    f"Of {claims} claims none of which is true, {0.025 * claims:.2g} would be called reproduced "
    "on average: an interval of 95 % lies above zero in 2.5 of 100 such cases."
  )
