"""What is done to pictures by chance, where chance is a number that is handed in.

A crop or a change takes a picture and `draws` numbers, evenly from 0 to below 1. Datasets hand in
numbers that are a function of (seed, epoch, example), and so of (seed, step): a run that resumes
sees what it would have seen, whatever the batch, the threads or the hosts. `random_map` makes of
them what Grain's `MapDataset.random_map` takes, for a pipeline of one's own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from research.errors import UserError


class Crop(Protocol):
  """Which square of a picture is shown.

  Attributes:
    draws: how many numbers it takes.
  """

  draws: int

  def __call__(self, image_YXC: np.ndarray, size: int, chances: np.ndarray) -> np.ndarray:
    """(size, size, 3) uint8 of a picture (Y, X, 3), whose sides are at least `size`."""


class Change(Protocol):
  """What is changed about a picture that keeps its size.

  Attributes:
    draws: how many numbers it takes.
  """

  draws: int

  def __call__(self, image_YXC: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """The changed picture."""


@dataclasses.dataclass(frozen=True)
class SquareCrop:
  """A square out of the picture as it is; CLIP's only augmentation (section 2.3)."""

  draws = 2

  def __call__(self, image_YXC: np.ndarray, size: int, chances: np.ndarray) -> np.ndarray:
    top, left = ((np.array(image_YXC.shape[:2]) - size + 1) * chances).astype(int)
    return image_YXC[top : top + size, left : left + size]


@dataclasses.dataclass(frozen=True)
class ResizedCrop:
  """A rectangle of some share of the picture, resized (Szegedy et al., 2015, section 6).

  Attributes:
    area: the least and the largest share; OpenCLIP's is (0.9, 1.0), that of classifiers (0.08, 1).
    ratio: the least and the largest of width over height, evenly in their logarithms.
  """

  area: tuple[float, float]
  ratio: tuple[float, float] = (3 / 4, 4 / 3)
  draws = 4

  def __post_init__(self):
    if not 0 < self.area[0] <= self.area[1] <= 1:
      raise UserError(f"area={self.area} are two shares in order, such as (0.9, 1.0).")
    if not 0 < self.ratio[0] <= self.ratio[1]:
      raise UserError(f"ratio={self.ratio} are two numbers above 0 in order, such as (0.75, 1.33).")

  def __call__(self, image_YXC: np.ndarray, size: int, chances: np.ndarray) -> np.ndarray:
    import PIL.Image

    high, wide = image_YXC.shape[:2]
    area, ratio, down, right = chances
    pixels = high * wide * (self.area[0] + (self.area[1] - self.area[0]) * area)
    low, top = map(math.log, self.ratio)
    ratio = math.exp(low + (top - low) * ratio)
    # What would reach beyond the picture ends at its border.
    width, height = min(wide, math.sqrt(pixels * ratio)), min(high, math.sqrt(pixels / ratio))
    x, y = (wide - width) * right, (high - height) * down
    box = (x, y, x + width, y + height)
    bicubic = PIL.Image.Resampling.BICUBIC
    return np.asarray(PIL.Image.fromarray(image_YXC).resize((size, size), bicubic, box=box))


@dataclasses.dataclass(frozen=True)
class Flip:
  """Left and right change places. What is to be read, or has sides, should not be flipped.

  Attributes:
    chance: of it.
  """

  chance: float = 0.5
  draws = 1

  def __post_init__(self):
    if not 0 <= self.chance <= 1:
      raise UserError(f"chance={self.chance} is a share of the pictures: from 0 to 1.")

  def __call__(self, image_YXC: np.ndarray, chances: np.ndarray) -> np.ndarray:
    return image_YXC[:, ::-1] if chances[0] < self.chance else image_YXC


@dataclasses.dataclass(frozen=True)
class Colour:
  """Brightness, contrast and saturation, each multiplied by 1 - x to 1 + x, in this order.

  Attributes:
    brightness, contrast, saturation: the x of each; 0 leaves it as it is.
  """

  brightness: float = 0.0
  contrast: float = 0.0
  saturation: float = 0.0
  draws = 3

  def __post_init__(self):
    for field in dataclasses.fields(self):
      if not 0 <= getattr(self, field.name) <= 1:
        raise UserError(f"{field.name}={getattr(self, field.name)} is a share: from 0 to 1.")

  def __call__(self, image_YXC: np.ndarray, chances: np.ndarray) -> np.ndarray:
    most = np.array([self.brightness, self.contrast, self.saturation])
    brightness, contrast, saturation = (1 + most * (2 * chances - 1)).astype(np.float32)
    x_YXC = image_YXC.astype(np.float32) * brightness
    grey_YX = x_YXC @ GREY
    middle = grey_YX.mean() * (1 - contrast)
    # Both at once: x is mixed with the mean grey, and then with its own grey.
    x_YXC *= contrast * saturation
    x_YXC += (contrast * (1 - saturation) * grey_YX + middle)[..., None]
    return np.clip(np.rint(x_YXC), 0, 255).astype(np.uint8)


GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def draws(crop: Crop, changes: Sequence[Change]) -> int:
  """How many numbers all of them take."""
  return crop.draws + sum(change.draws for change in changes)


def augmented(
  image_YXC: np.ndarray, size: int, crop: Crop, changes: Sequence[Change], chances: np.ndarray
) -> np.ndarray:
  """(size, size, 3) uint8: cropped, then changed; `chances` are as many as `draws` says."""
  image_YXC = crop(image_YXC, size, chances[: crop.draws])
  used = crop.draws
  for change in changes:
    image_YXC = change(image_YXC, chances[used : used + change.draws])
    used += change.draws
  return image_YXC


def random_map(
  size: int, crop: Crop, changes: Sequence[Change] = ()
) -> Callable[[dict[str, Any], np.random.Generator], dict[str, Any]]:
  """For `grain.MapDataset.random_map`, whose generator hangs on its seed and the element's number.

  Elements are dicts with an "image" (Y, X, 3) uint8, whose sides are at least `size`.
  """

  def apply(element: dict[str, Any], generator: np.random.Generator) -> dict[str, Any]:
    chances = generator.random(draws(crop, changes))
    return {**element, "image": augmented(element["image"], size, crop, changes, chances)}

  return apply
