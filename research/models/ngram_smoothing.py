"""How the counts of an n-gram model become probabilities: Kneser-Ney's discounts, or added counts.

Both have one form, interpolation. With a the added count and R(h) all that was discounted after h,

  p(w | h) = (c(hw) - D(c(hw))) / (c(h) + aV)  +  (R(h) + aV) / (c(h) + aV) * p(w | h'),

where h' is h without its first token; below the empty context stands the uniform 1/V. A smoothing
says which counts c each order goes by, what D is and what a is.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

import numpy as np

from research.errors import UserError

if TYPE_CHECKING:
  from research.models.ngram_counts import Level

Discounts = tuple[float, float, float]


class Smoothing(Protocol):
  """The a, c and D of the equation above."""

  added: float

  def lower(self, level: Level, extensions: np.ndarray) -> np.ndarray:
    """The counts c (G,) of an order below the highest, which itself goes by occurrences.

    Args:
      level: its k-grams, G of them.
      extensions: (G,) how many different tokens were seen to the left of each.
    """

  def discounts(self, counts: np.ndarray, order: int) -> Discounts:
    """D of the counts 1, 2 and 3 or more, given all `counts` (G,) of one order (from 1)."""


@dataclasses.dataclass(frozen=True)
class KneserNey:
  """Interpolated modified Kneser-Ney: three discounts for each order.

  Chen and Goodman (1999), "An empirical study of smoothing techniques for language modeling",
  section 3. A lower order counts the different tokens seen to the left of a k-gram instead of its
  occurrences; a k-gram that opens a document has nothing to its left and keeps its occurrences, as
  in SRILM.

  Attributes:
    fixed: (D1, D2, D3+) for each order from 1 on; None to estimate them, as the paper does.
    fallback: for an order whose counts of counts allow no estimate, as in a small vocabulary: one
      of n1 to n4 is zero, or an estimated D(r) falls outside (0, r].
  """

  fixed: tuple[Discounts, ...] | None = None
  fallback: Discounts = (0.5, 1.0, 1.5)
  added = 0.0

  def __post_init__(self) -> None:
    for triple in (self.fallback, *(self.fixed or ())):
      if len(triple) != 3 or not all(0 <= d <= r for r, d in enumerate(triple, 1)):
        raise UserError(f"discounts {triple}; they are three, of 1, 2 and 3, and none takes more")

  def lower(self, level: Level, extensions: np.ndarray) -> np.ndarray:
    """Left extensions; occurrences where a document opens."""
    return np.where(level.opens, level.counts, extensions)

  def discounts(self, counts: np.ndarray, order: int) -> Discounts:
    """D(r) = r - (r+1) Y n(r+1) / n(r) with Y = n(1) / (n(1) + 2 n(2)), from counts of counts n."""
    if self.fixed is not None:
      if order > len(self.fixed):
        raise UserError(f"order {order} has no discounts among the fixed {self.fixed}; add three")
      return self.fixed[order - 1]
    n = np.bincount(np.minimum(counts, 5), minlength=6)
    if not n[1:5].all():
      return self.fallback
    y = n[1] / (n[1] + 2 * n[2])
    estimates = tuple(float(r - (r + 1) * y * n[r + 1] / n[r]) for r in (1, 2, 3))
    return estimates if all(d > 0 for d in estimates) else self.fallback


@dataclasses.dataclass(frozen=True)
class Additive:
  """Adds the same count to every n-gram of the highest order, seen or not.

  Shorter contexts serve only where a document opens. A context never seen predicts uniformly.

  Attributes:
    added: 1 is Laplace's add-one; 0 is maximum likelihood, for which the unseen is impossible.
  """

  added: float

  def __post_init__(self) -> None:
    if self.added < 0:
      raise UserError(f"added={self.added} counts; choose 0 (maximum likelihood) or more")

  def lower(self, level: Level, extensions: np.ndarray) -> np.ndarray:
    """Nothing; but occurrences where a document opens, for there is no longer context."""
    del extensions
    return np.where(level.opens, level.counts, 0)

  def discounts(self, counts: np.ndarray, order: int) -> Discounts:
    """Nothing is taken from any count."""
    del counts, order
    return (0.0, 0.0, 0.0)
