"""Rotary positions (Su et al., 2021), and how they are stretched to read further than trained."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax import Array

from research.nn.platform import fence


@dataclasses.dataclass(frozen=True)
class Linear:
  """All positions are divided by `factor` (Chen et al., 2023, position interpolation)."""

  factor: float

  def stretch(self, frequencies: np.ndarray, base: float) -> np.ndarray:
    del base
    return frequencies / self.factor

  def magnitude(self) -> float:
    return 1.0


@dataclasses.dataclass(frozen=True)
class Llama3:
  """Long waves are stretched, short ones are not, those between in part (Llama 3.1's code).

  Attributes:
    factor: by which long waves are stretched.
    low, high: a wave is long where it turns less than `low` times within `original_length`
      tokens, and short where it turns more than `high` times.
    original_length: that the model was trained with before.
  """

  factor: float
  low: float
  high: float
  original_length: int

  def stretch(self, frequencies: np.ndarray, base: float) -> np.ndarray:
    del base
    turns = self.original_length * frequencies / (2 * math.pi)
    kept = np.clip((turns - self.low) / (self.high - self.low), 0, 1)
    return frequencies * (kept + (1 - kept) / self.factor)

  def magnitude(self) -> float:
    return 1.0


@dataclasses.dataclass(frozen=True)
class Yarn:
  """As `Llama3`, with a ramp over the numbers of the waves, and scores scaled (Peng et al., 2023).

  Attributes:
    factor, original_length: as of `Llama3`.
    fast, slow: turns within `original_length` above which a wave is short, and below which it is
      long.
    temperature: by which queries and keys are multiplied; section 3.4's where not given.
  """

  factor: float
  original_length: int
  fast: float = 32.0
  slow: float = 1.0
  temperature: float | None = None

  def stretch(self, frequencies: np.ndarray, base: float) -> np.ndarray:
    count = len(frequencies)
    first = max(math.floor(self._wave(self.fast, base, count)), 0)
    last = min(math.ceil(self._wave(self.slow, base, count)), 2 * count - 1)
    stretched = np.clip((np.arange(count) - first) / (last - first or 0.001), 0, 1)
    return frequencies * (1 - stretched + stretched / self.factor)

  def _wave(self, turns: float, base: float, count: int) -> float:
    """The number of the wave that turns so often."""
    return count * math.log(self.original_length / (turns * 2 * math.pi)) / math.log(base)

  def magnitude(self) -> float:
    if self.temperature is not None:
      return self.temperature
    return 0.1 * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0


Scaling = Linear | Llama3 | Yarn


def rotate(
  x_BLHK: Array, positions_BL: Array, base: float = 10_000.0, scaling: Scaling | None = None
) -> Array:
  """Turns each pair of values by an angle of its position, so that scores depend on distances.

  Su et al., 2021 (RoFormer), pairing value i with value i + K/2 as in GPT-NeoX and Llama.
  """
  frequencies, magnitude = _frequencies(x_BLHK.shape[-1] // 2, base, scaling)
  angles_BL1K = positions_BL[:, :, None, None] * frequencies
  # Without fences fusions make them again: for either half, in every layer, forward and backward.
  cosine, sine = (fence(turn(angles_BL1K) * magnitude) for turn in (jnp.cos, jnp.sin))
  # Cut and joined in the narrow dtype, computed in the wide one: half the memory on the way.
  first, second = (half.astype(jnp.float32) for half in jnp.split(x_BLHK, 2, axis=-1))
  rotated = [first * cosine - second * sine, second * cosine + first * sine]
  return jnp.concatenate([half.astype(x_BLHK.dtype) for half in rotated], axis=-1)


def _frequencies(count: int, base: float, scaling: Scaling | None) -> tuple[np.ndarray, float]:
  """(count,) float32, made once and alike for every device, and what sines are multiplied by."""
  frequencies = float(base) ** (-np.arange(count) / count)
  if scaling is None:
    return frequencies.astype(np.float32), 1.0
  return scaling.stretch(frequencies, base).astype(np.float32), scaling.magnitude()
