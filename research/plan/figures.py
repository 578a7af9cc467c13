"""Numbers as people read them."""

import math

from research.plan.topology import GIB


def gib(size: float) -> str:
  return short(size / GIB)


def gb(size: float) -> str:
  return short(size / 1e9)


def tera(flops: float) -> str:
  return short(flops / 1e12)


def short(value: float) -> str:
  """Three figures that count, and no digits that do not."""
  if not math.isfinite(value):
    return str(value)
  if value == 0 or abs(value) < 1e-6:
    return "0"
  digits = max(0, 2 - math.floor(math.log10(abs(value))))
  return f"{value:,.{digits}f}"
