"""Word dropout: rows some of whose tokens are hidden, others in every epoch.

Iyyer et al., 2015, section 3.3; there a dropped word is left out, here [MASK] stands in its place,
which an encoder knows from its pre-training. Few labelled texts are learned by heart less.
"""

from __future__ import annotations

import numpy as np

from research.data import draws
from research.data.pipeline import Batch, Source


class WordDropout:
  """The rows of a source with a share of their tokens hidden; marks and padding never are.

  Attributes:
    rows: with "tokens" and "segments", which are 0 where nothing stands.
    share: in [0, 1).
    mask: the token that stands for others.
    marks: tokens that are not hidden.
    seed: of the choice, with the row and the epoch.
  """

  def __init__(self, rows: Source, share: float, *, mask: int, marks: list[int], seed: int):
    self.rows, self.share, self.mask, self.marks, self.seed = rows, share, mask, marks, seed

  def __len__(self) -> int:
    return len(self.rows)

  def take(self, indices: np.ndarray, epoch: int) -> Batch:
    """The rows `indices` as this epoch shows them."""
    batch = self.rows.take(indices, epoch)
    tokens_BL = batch["tokens"]
    words_BL = (batch["segments"] > 0) & ~np.isin(tokens_BL, self.marks)
    chance_BL = draws.uniform(self.seed, epoch, np.asarray(indices), tokens_BL.shape[1])
    hidden_BL = words_BL & (chance_BL < self.share)
    return {**batch, "tokens": np.where(hidden_BL, np.int32(self.mask), tokens_BL)}
