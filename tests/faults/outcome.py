"""What came of trying a kind of fault many times."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

Case = TypeVar("Case")
Say = Callable[[int, int], None]  # after each try: how many were tried, of how many


class Unavailable(Exception):
  """What this kind of fault needs is not on this machine."""


@dataclasses.dataclass(frozen=True)
class Outcome:
  """Of `tried` faults so many `held`; `failures` says of each other one what went wrong."""

  tried: int
  held: int
  failures: list[str]
  figures: dict[str, Any]

  def line(self, kind: str) -> str:
    """For example "crash: 101 of 101 held (78 calls in the save, 1.4 s each)"."""
    figures = ", ".join(f"{name} {value}" for name, value in self.figures.items())
    return f"{kind}: {self.held} of {self.tried} held" + (f" ({figures})" if figures else "")


def judged(results: Iterable[tuple[str, str]], of: int, say: Say, **figures: Any) -> Outcome:
  """The outcome of pairs (what was tried, what was wrong with it or nothing), as they come."""
  tried, failures = 0, []
  for case, problem in results:
    tried += 1
    if problem:
      failures.append(f"{case}: {problem}")
    say(tried, of)
  return Outcome(tried, tried - len(failures), failures, figures)


def spread(cases: Sequence[Case], n: int | None) -> list[Case]:
  """`n` of the cases at even distances, with the first and the last of them; None: all."""
  if n is None or n >= len(cases):
    return list(cases)
  if n == 1:
    return [cases[len(cases) // 2]]
  return [cases[i * (len(cases) - 1) // (n - 1)] for i in range(n)]
