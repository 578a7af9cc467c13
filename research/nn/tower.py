"""A stack of pre-norm layers for sequences whose length no mesh was asked about: patches, captions.

A class token makes 197 of 196 patches, a caption has 77 tokens: where a mesh splits the length, the
sequence is padded until it divides, and nobody sees the padding.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from research.nn.masks import Mask
from research.nn.stack import Stack
from research.nn.transformer import Block
from research.sharding import active, constrain


def stack(tower: Any) -> Stack:
  """The layers of a tower with the fields width, depth, heads, hidden, activation, epsilon, ...

  Initial weights are CLIP's (its code, `initialize_parameters`) but for the first projection of
  each MLP, which starts like the other projections of the width and not 1/sqrt(2) smaller.
  """
  deviation = tower.width**-0.5
  block = Block(
    heads=tower.heads,
    hidden=tower.hidden or 4 * tower.width,
    activation=tower.activation,
    epsilon=tower.epsilon,
    kernel_init=nn.initializers.normal(deviation),
    out_init=nn.initializers.normal(deviation * (2 * tower.depth) ** -0.5),
    parent=None,
  )
  return Stack((block,), tower.depth, tower.layers, tower.remat)


def climb(blocks: Stack, x_BLD: Array, *, causal: bool) -> Array:
  """(B, L, D) -> (B, L, D) through the layers."""
  B, L, _ = x_BLD.shape
  layout = active()
  padding = 0 if layout is None else -L % layout.parts("L")
  mask = Mask(causal=True) if causal else None
  if padding:
    x_BLD = jnp.pad(x_BLD, ((0, 0), (0, padding), (0, 0)))
    if not causal:  # what comes last is seen by nobody before it
      mask = Mask(segments_BL=jnp.broadcast_to(jnp.arange(L + padding) < L, (B, L + padding)) + 0)
  return blocks(constrain(x_BLD, "BLD"), mask)[:, :L]
