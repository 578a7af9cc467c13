"""Whether what is right is among the k nearest; what scores the same is ordered by lot.

The tie rule, in full: cosines are compared to six digits behind the point, for the seventh is
rounding. Where right and wrong ones share a score, every order of these is as likely as another,
and what is counted is the probability of a hit. So a model whose vectors are all the same scores
what chance scores, neither nothing nor everything. What is no number (NaN) is farther than all that
are, and never a hit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DIGITS = 6
ROWS = 1024  # of queries that are scored at a time


def hits(scores_QJ: np.ndarray, right_QJ: np.ndarray, nearest: Sequence[int]) -> np.ndarray:
  """(Q, len(nearest)): the probability that one of the right ones is among the k nearest.

  Args:
    scores_QJ: of every query with every one that may be found.
    right_QJ: which of these are right; at least one for a query.
    nearest: the numbers k.
  """
  scores_QJ = np.round(np.where(np.isnan(scores_QJ), -np.inf, scores_QJ), DIGITS)
  best_Q1 = np.where(right_QJ, scores_QJ, -np.inf).max(axis=1, keepdims=True)
  nearer_Q = (scores_QJ > best_Q1).sum(axis=1)
  same_QJ = (scores_QJ == best_Q1) & np.isfinite(best_Q1)
  right_Q, wrong_Q = ((same_QJ & x).sum(axis=1) for x in (right_QJ, ~right_QJ))
  return np.stack([drawn(right_Q, wrong_Q, k - nearer_Q) for k in nearest], axis=1)


def drawn(right: np.ndarray, wrong: np.ndarray, places: np.ndarray) -> np.ndarray:
  """The probability that of `right` and `wrong` ones, put into a row by lot, a right one is first.

  First are those at the beginning, in so many places; arrays of one shape. Without right ones it
  is 0.
  """
  missed = np.ones(np.shape(right))
  for i in range(int(np.max(places, initial=0))):
    left = np.maximum(wrong - i, 0)
    missed *= np.where(i < places, left / np.maximum(left + right, 1), 1.0)
  return np.where(right > 0, 1.0 - missed, 0.0)


def found(
  queries_QE: np.ndarray,
  others_JE: np.ndarray,
  pairs: np.ndarray,
  nearest: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
  """`hits` of all queries, and what chance has on average for each k.

  Args:
    queries_QE, others_JE: unit vectors.
    pairs: (n, 2) numbers of a query and of one that is right for it.
    nearest: the numbers k.
  """
  order = np.argsort(pairs[:, 0], kind="stable")
  queries, others = pairs[order].T
  parts = []
  for first in range(0, len(queries_QE), ROWS):
    some = queries_QE[first : first + ROWS]
    here = slice(*np.searchsorted(queries, [first, first + len(some)]))
    right = np.zeros((len(some), len(others_JE)), bool)
    right[queries[here] - first, others[here]] = True
    parts.append(hits(some @ others_JE.T, right, nearest))
  each = np.bincount(queries, minlength=len(queries_QE))
  of_chance = [drawn(each, len(others_JE) - each, np.full(each.shape, k)) for k in nearest]
  return np.concatenate(parts), np.stack(of_chance, axis=1)
