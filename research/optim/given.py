"""The numbers of an optimizer that a program is given when it runs, and is not compiled with.

They are those that sweeps are made of: runs that differ in nothing else share one program.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from research.optim.optimizers import SGD, Adafactor, AdamW, Lion, Muon
from research.optim.schedules import (
  Constant,
  Cosine,
  InverseSquareRoot,
  Linear,
  WarmupStableDecay,
)

OPTIMIZERS = (AdamW, Adafactor, Lion, SGD, Muon)
HEIGHTS = {  # of a schedule: the field that all its rates are multiples of
  Constant: "value",
  Cosine: "peak",
  InverseSquareRoot: "peak",
  Linear: "peak",
  WarmupStableDecay: "peak",
}


def given(optimizer: Any) -> dict[str, np.float32]:
  """The learning rate's height and the weight decay, by dotted path, where they are fractions.

  Nothing of an optimizer or a schedule of other packages: they may ask for theirs beforehand. Nor
  of a decay of zero, which is no part of the program.
  """
  if type(optimizer) not in OPTIMIZERS:
    return {}
  rate = optimizer.learning_rate
  found = {"weight_decay": optimizer.weight_decay or None}
  if type(rate) in HEIGHTS:
    height = HEIGHTS[type(rate)]
    found[f"learning_rate.{height}"] = getattr(rate, height)
  else:
    found["learning_rate"] = rate
  return {path: np.float32(value) for path, value in found.items() if type(value) is float}
