"""Randomness as arithmetic: numbers that depend on a seed, an epoch and an example, and no order.

Seeding a generator for every example would cost more than the example. These are the outputs of
SplitMix64 (Steele, Lea & Flood, 2014, figure 17) at places that are counted, never walked to.
"""

from __future__ import annotations

import numpy as np

GAMMA = np.uint64(0x9E3779B97F4A7C15)  # the odd step between states


def uniform(seed: int, epoch: int, examples_B: np.ndarray, count: int) -> np.ndarray:
  """(B, count) float64 in [0, 1): the same for an example whatever the batch that it is in."""
  start = _mixed(np.uint64((seed + int(GAMMA)) % 2**64))
  start = _mixed(start ^ np.uint64(epoch % 2**64))
  of_example_B1 = _mixed(start ^ np.asarray(examples_B).astype(np.uint64)[:, None])
  steps_C = np.arange(1, count + 1, dtype=np.uint64) * GAMMA
  return (_mixed(of_example_B1 + steps_C) >> np.uint64(11)) * 2.0**-53


def _mixed(state: np.ndarray) -> np.ndarray:
  """Every bit of the result depends on every bit of the state."""
  with np.errstate(over="ignore"):  # arithmetic is modulo 2**64
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
