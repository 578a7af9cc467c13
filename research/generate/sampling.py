"""How the next token is chosen from a model's logits: the likeliest, or one at random.

A sampler is a frozen value called with one key and one row of logits for each text, so that what a
text becomes does not depend on the texts beside it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from research.errors import UserError

COLDEST = float(np.finfo(np.float32).tiny)  # what is smaller some devices take for 0


class Sampler(Protocol):
  """Chooses tokens."""

  def __call__(self, keys_B: Array, logits_BV: Array) -> Array:
    """One int32 token for each row, (B,)."""


@dataclasses.dataclass(frozen=True)
class Greedy:
  """Always the likeliest token; of several equally likely ones, the first."""

  def __call__(self, keys_B: Array, logits_BV: Array) -> Array:
    del keys_B
    return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class Sample:
  """A token drawn from softmax(logits / temperature), cut to its likeliest tokens.

  The cuts come after the temperature and in the order given here, each of what is left.

  Attributes:
    temperature: below 1 the likely tokens become likelier; 0 is `Greedy`.
    top_k: only the k likeliest tokens.
    top_p: only the fewest likeliest tokens that together have probability p.
  """

  temperature: float = 1.0
  top_k: int | None = None
  top_p: float | None = None

  def __post_init__(self):
    if not (0 <= self.temperature < math.inf):
      raise UserError(
        f"temperature={self.temperature} must be a number from 0 on; 0 takes the likeliest token, "
        "1 samples from the model's own distribution."
      )
    if self.top_k is not None and self.top_k < 1:
      raise UserError(f"top_k={self.top_k} keeps no token; choose at least 1, or leave it out.")
    if self.top_p is not None and not 0 < self.top_p <= 1:
      raise UserError(f"top_p={self.top_p} is a probability in (0, 1]; 1 keeps every token.")

  def __call__(self, keys_B: Array, logits_BV: Array) -> Array:
    if self.temperature == 0:
      return Greedy()(keys_B, logits_BV)
    # Of differences from the largest none becomes infinite that is not far below it.
    logits_BV = logits_BV - jnp.max(logits_BV, axis=-1, keepdims=True)
    logits_BV = logits_BV / max(self.temperature, COLDEST)
    if self.top_k is not None:
      logits_BV = top_k(logits_BV, self.top_k)
    if self.top_p is not None:
      logits_BV = top_p(logits_BV, self.top_p)
    return jax.vmap(draw)(keys_B, logits_BV)


def top_k(logits_BV: Array, k: int) -> Array:
  """The k largest logits of each row, and -inf elsewhere (Fan et al., 2018, section 5.4).

  Of equal ones the first are kept.
  """
  if k >= logits_BV.shape[-1]:
    return logits_BV
  largest_BK, tokens_BK = jax.lax.top_k(logits_BV, k)
  nothing_BV = jnp.full_like(logits_BV, -jnp.inf)
  return jax.vmap(lambda row, at, values: row.at[at].set(values))(nothing_BV, tokens_BK, largest_BK)


def top_p(logits_BV: Array, p: float) -> Array:
  """The logits of the nucleus, and -inf elsewhere (Holtzman et al., 2020, section 3.1).

  The nucleus is the smallest set of tokens with a probability of at least p; of equal ones the
  first are kept. The least probability in it is found by bisection, for sorting a vocabulary of
  50,000 takes longer than the layers of a small model. A float that is not negative is ordered as
  its bits are, so that 31 halvings are exact.
  """
  if p >= 1:
    return logits_BV
  probs_BV = jax.nn.softmax(logits_BV.astype(jnp.float32))
  bits_BV = jax.lax.bitcast_convert_type(probs_BV, jnp.int32)

  def mass_of(chosen_BV):
    return jnp.sum(jnp.where(chosen_BV, probs_BV, 0), axis=-1, keepdims=True)

  def halve(_, bounds):
    low_B1, high_B1 = bounds  # tokens from `low` on have mass p, those from `high` on do not
    middle_B1 = low_B1 + (high_B1 - low_B1) // 2
    enough_B1 = mass_of(bits_BV >= middle_B1) >= p
    return jnp.where(enough_B1, middle_B1, low_B1), jnp.where(enough_B1, high_B1, middle_B1)

  low_B1 = jnp.zeros((logits_BV.shape[0], 1), jnp.int32)
  high_B1 = jax.lax.bitcast_convert_type(jnp.full_like(low_B1, 2, jnp.float32), jnp.int32)
  least_B1, _ = jax.lax.fori_loop(0, 31, halve, (low_B1, high_B1))

  above_BV, tied_BV = bits_BV > least_B1, bits_BV == least_B1
  earlier_BV = jnp.cumsum(tied_BV, axis=-1) - 1
  least_prob_B1 = jax.lax.bitcast_convert_type(least_B1, jnp.float32)
  needed_BV = tied_BV & (mass_of(above_BV) + earlier_BV * least_prob_B1 < p)
  return jnp.where(above_BV | needed_BV, logits_BV, -jnp.inf)


def draw(key: Array, logits_V: Array) -> Array:
  """One token, int32, with the probabilities softmax(logits).

  It draws a block of about sqrt(V) tokens and then a token of the block, each by one uniform
  number: far less randomness than V Gumbel variables, and sums short enough for float32.
  """
  V = logits_V.shape[0]
  size = math.ceil(math.sqrt(V))
  weights_V = jnp.exp(logits_V - jnp.max(logits_V))
  weights = jnp.pad(weights_V, (0, -V % size)).reshape(-1, size)
  in_blocks, in_block = jax.random.uniform(key, (2,))
  block = _pick(weights.sum(axis=1), in_blocks)
  return block * size + _pick(weights[block], in_block)


def _pick(weights: Array, uniform: Array) -> Array:
  """The first index up to which the weights add up to more than that part of their sum."""
  sums = jnp.cumsum(weights)
  return jnp.sum(sums <= uniform * sums[-1], dtype=jnp.int32)
