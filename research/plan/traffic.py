"""What a step has to send, in closed form: from how the weights are split, without any program."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from research.sharding import Layout, axes_of


@dataclasses.dataclass(frozen=True)
class Traffic:
  """Bytes that one device sends in a step.

  Attributes:
    width: bytes of an activation's value, and of a weight's on its way.
    states: values of a step between layers, of all layers and over all devices.
    sizes: of every parameter, in the order of the tree.
  """

  width: int
  states: float
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
    spread = math.prod(layout.size(axis) for axis in layout.of_activations)
    return (4 if policy == "none" else 6) * self.states / spread * self.width * 2 * (t - 1) / t


def of(model: Any, batch: Mapping[str, jax.ShapeDtypeStruct], sizes: tuple[int, ...]) -> Traffic:
  """Of a model on a batch, with its parameters' sizes."""
  return Traffic(4 if dtype(model) == "float32" else 2, _states(_stacks(model), batch), sizes)


def dtype(model: Any) -> str:
  """Of a model's activations."""
  return getattr(_stacks(model), "dtype", "float32")


def _stacks(model: Any) -> Any:
  """What has the layers: the model, or what its head for a task stands on."""
  return getattr(model, "body", model)


def _states(model: Any, batch: Mapping[str, jax.ShapeDtypeStruct]) -> float:
  """Values between layers, added up over all of them: of words, of a source's, of patches."""

  def read(field: str, default: Any = 0) -> Any:
    return getattr(model, field, default)

  def number(*names: str) -> int:
    return next((batch[name].size for name in names if name in batch), 0)

  words, source = number("tokens", "caption"), number("source")
  if "image" in batch and read("patch"):
    side = read("image_size") // read("patch")
    patches = batch["image"].shape[0] * side**2 * (1 - read("patch_dropout"))
    if read("image_width"):
      towers = patches * read("image_width") * read("image_depth")
      return towers + words * read("text_width") * read("text_depth")
    return patches * read("width") * read("depth")
  deep = (read("decoder_depth") or read("depth")) if source else read("depth")
  return (source * read("depth") + words * deep) * read("width")
