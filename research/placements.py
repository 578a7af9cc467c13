"""Where the arrays of a training state lie: parameters by their letters, all else after them."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn

from research.sharding import Layout


def placements(layout: Layout, state: Any, boxed: Any) -> Any:
  """A sharding for every leaf: parameters by their letters, the rest as its parameter or whole."""

  def by_letters(box):
    return layout.sharding(letters(box), nn.meta.unbox(box).shape)

  placed = jax.tree.map(by_letters, boxed, is_leaf=is_box)
  of_param = {
    path: (leaf.shape, place)
    for (path, leaf), place in zip(
      jax.tree_util.tree_leaves_with_path(state.params), jax.tree.leaves(placed), strict=True
    )
  }

  def like_its_parameter(path, leaf):
    """Moments carry their parameter's path at the end of their own."""
    for start in range(len(path)):
      shape, place = of_param.get(path[start:], (None, None))
      if shape == leaf.shape:
        return place
    return layout.replicated

  return jax.tree_util.tree_map_with_path(like_its_parameter, state)


def letters(box: Any) -> tuple[str, ...]:
  """Of the dimensions of a parameter in its box; '.' is a nameless one."""
  return tuple(name or "." for name in box.names) if is_box(box) else (".",) * box.ndim


def is_box(leaf: Any) -> bool:
  """Whether Flax keeps names of dimensions with it."""
  return isinstance(leaf, nn.meta.AxisMetadata)
