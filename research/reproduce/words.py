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


def elsewhere(verdict: Verdict) -> bool:
  """Whether the paper gives its own effect, in another unit than ours."""
  return bool(verdict.unit) and math.isfinite(verdict.paper)


def marked(verdict: Verdict) -> str:
  """The paper's own effect, with a star where its unit is another."""
  return signed(verdict.paper) + (" *" if elsewhere(verdict) else "")


def paper(verdict: Verdict) -> str:
  """The paper's own effect, with its unit where that is another."""
  return signed(verdict.paper) + (f" ({verdict.unit})" if elsewhere(verdict) else "")


def effect(verdict: Verdict) -> str:
  """What was measured."""
  return NONE if verdict.effect is None else signed(verdict.effect.estimate)


def by_luck(claims: int) -> str:
  """How many of so many claims would be called reproduced if none of them were true."""
  return (
    f"Of {claims} claims none of which is true, at most {0.025 * claims:.2g} would be called "
    "reproduced on average: in 2.5 of 100 such cases an interval of 95 % lies where it is asked to."
  )
