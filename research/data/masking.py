"""Masking: which tokens of a row are predicted, and what stands there instead of them.

Devlin et al., 2018, section 3.1, task 1, and appendix A.1. Of the chosen tokens 80 % become the
mask, 10 % a random token, and 10 % stay.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

MASKED, RANDOM = 0.8, 0.1  # the paper's; the rest stays

Unit = Literal["tokens", "words"]


def room(length: int, rate: float) -> int:
  """T: places for the predictions of a row of `length` tokens, a multiple of 8 to be divided."""
  return -(-int(np.ceil(rate * length)) // 8) * 8


def mask(
  tokens_BL: np.ndarray,
  free_BL: np.ndarray,
  counts_B: np.ndarray,
  uniform_B3L: np.ndarray,
  *,
  room: int,
  stands_for: int,
  vocab_size: int,
  continues_BL: np.ndarray | None = None,
  masked: float = MASKED,
  random: float = RANDOM,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Chooses `counts` tokens of every row, and hides them.

  Args:
    tokens_BL: the rows.
    free_BL: where a token may be chosen.
    counts_B: how many to choose, at most T; fewer where fewer are free.
    uniform_B3L: numbers in [0, 1): which are chosen, what becomes of them, random tokens.
    room: T.
    stands_for: the token that masks others.
    vocab_size: of random tokens.
    continues_BL: tokens that are chosen with the one before them, or not at all. A word that
      would be one too many for its row is not chosen, and the row has fewer predictions.
    masked, random: shares of the chosen tokens that become the mask, and a random token; the rest
      stays.

  Returns:
    The rows with their tokens hidden (B, L); the places of these in ascending order (B, T), zero
    where there are no more; and what stood there (B, T), zero as well.
  """
  B, L = tokens_BL.shape
  columns_L = np.arange(L)
  choice_BL, fate_BL, word_BL = uniform_B3L[:, 0], uniform_B3L[:, 1], uniform_B3L[:, 2]
  begins_BL = np.ones((B, L), bool)
  if continues_BL is not None:
    begins_BL[:, 1:] = ~(continues_BL & free_BL)[:, 1:] | ~free_BL[:, :-1]
  first_BL = np.maximum.accumulate(np.where(begins_BL, columns_L, 0), axis=1)
  choice_BL = np.take_along_axis(choice_BL, first_BL, axis=1)  # one number for a word
  choice_BL = np.where(free_BL, choice_BL, 2.0)

  order_BL = np.argsort(choice_BL, axis=1, kind="stable")
  rank_BL = np.empty_like(order_BL)
  np.put_along_axis(rank_BL, order_BL, np.broadcast_to(columns_L, (B, L)), axis=1)
  # The tokens of a word have ranks in turn: it fits whole where its last token does.
  ends_BL = np.ones((B, L), bool)
  ends_BL[:, :-1] = begins_BL[:, 1:]
  last_BL = np.minimum.accumulate(np.where(ends_BL, columns_L, L - 1)[:, ::-1], axis=1)[:, ::-1]
  last_rank_BL = np.take_along_axis(rank_BL, last_BL, axis=1)
  chosen_BL = (last_rank_BL < counts_B[:, None]) & free_BL

  fresh_BL = (word_BL * vocab_size).astype(tokens_BL.dtype)
  hidden_BL = np.where(fate_BL < masked, stands_for, fresh_BL)
  hidden_BL = np.where(fate_BL < masked + random, hidden_BL, tokens_BL)
  places_BT = np.sort(np.where(chosen_BL, columns_L, L), axis=1)[:, :room]
  there_BT = places_BT < L
  places_BT = np.where(there_BT, places_BT, 0)
  targets_BT = np.where(there_BT, np.take_along_axis(tokens_BL, places_BT, axis=1), 0)
  return np.where(chosen_BL, hidden_BL, tokens_BL), places_BT, targets_BT
