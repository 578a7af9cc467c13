"""What a step has to send, in closed form: from how the weights are split, without any program."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from research.sharding import Layout, axes_of


@dataclasses.dataclass(frozen=True)
class Traffic:
  """Bytes that one device sends in a step.

  Attributes:
    model: weights travel in its dtype; the states between layers have its width and depth.
    tokens: of a batch, over all devices.
    sizes: of every parameter, in the order of the tree.
  """

  model: Any
  tokens: int
  sizes: tuple[int, ...]

  def sent(
    self, layout: Layout, specs: Sequence[Any], *, policy: str, microbatches: int
  ) -> dict[str, float]:
    """By kind of collective: weights gathered, their gradients summed, split products summed."""
    sent = dict.fromkeys(("all-gather", "all-reduce", "reduce-scatter"), 0.0)
    rows = layout.of_activations
    for size, spec in zip(self.sizes, specs, strict=True):
      axes = [axis for part in spec for axis in axes_of(part)]
      split = math.prod(layout.size(axis) for axis in axes if axis in rows)
      others = math.prod(layout.size(axis) for axis in axes if axis not in rows)
      whole = size / others * self.width  # of a weight in use
      rest = math.prod(layout.size(axis) for axis in rows) // split
      sent["all-gather"] += 2 * whole * (split - 1) / split  # forward, and again backward
      if rest == 1:
        # Over all devices of a slice the TPU compiler sums, and then drops what is not its own.
        sent["all-reduce"] += 2 * whole * (split - 1) / split
      else:
        sent["reduce-scatter"] += whole * (split - 1) / split
        sent["all-reduce"] += 2 * whole / split * (rest - 1) / rest
    # The sum of gradients over microbatches is split as they are: each one is reduced by itself.
    sent = {kind: microbatches * size for kind, size in sent.items()}
    sent["all-reduce"] += self.split_products(layout, policy)
    return {kind: size for kind, size in sent.items() if size}

  def split_products(self, layout: Layout, policy: str) -> float:
    """Of products whose contracted letter is split over tensor, each an all-reduce of the states.

    A layer has two forward, two backward, and two more where the forward ones are made again.
    """
    t = layout.size("tensor")
    states = self.tokens * getattr(self.model, "width", 0) * getattr(self.model, "depth", 0)
    spread = math.prod(layout.size(axis) for axis in layout.of_activations)
    return (4 if policy == "none" else 6) * states / spread * self.width * 2 * (t - 1) / t

  @property
  def width(self) -> int:
    """Bytes of an activation's value, and of a weight's on its way."""
    return 4 if getattr(self.model, "dtype", "float32") == "float32" else 2
