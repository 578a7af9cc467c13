"""Drawn pictures with captions that are true of them: "a red circle above a blue square".

Nothing is downloaded and nothing stored: every picture is a function of its number. There are six
colours, four shapes and four relations, so 2,208 captions; where the two things stand, and how
large they are, differs between pictures of the same caption.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from research.data import captions, draws, pipeline
from research.data.splits import SPLITS, TRAIN
from research.data.vocabulary import Bytes, Tokenizer, Vocabulary
from research.errors import UserError

COLOURS = {
  "red": (220, 40, 40),
  "green": (40, 170, 60),
  "blue": (50, 80, 220),
  "yellow": (240, 210, 50),
  "purple": (150, 60, 180),
  "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "cross")
# Where the first thing is, and so the second: rows and columns from the middle.
RELATIONS = {"above": (-1, 0), "below": (1, 0), "left of": (0, -1), "right of": (0, 1)}
GROUND = 30  # of all three colours
THINGS = [(colour, shape) for colour in COLOURS for shape in SHAPES]


@dataclasses.dataclass(frozen=True)
class Shapes:
  """Pairs of a drawn picture and its caption.

  Attributes:
    image_size: rows and columns.
    length: tokens of a caption; 48 hold all of them as bytes.
    examples: pictures of "train"; every epoch draws others of the same captions.
    heldout: pictures of "heldout".
    tokenizer: of the captions.
    seed: of what is drawn.
  """

  image_size: int
  length: int
  examples: int
  heldout: int
  tokenizer: Tokenizer = Bytes()  # noqa: RUF009 (frozen)
  seed: int = 0

  def __post_init__(self):
    captions.check_length(self.length)
    for name, least in (("image_size", 1), ("examples", 1), ("heldout", 0)):
      if getattr(self, name) < least:
        raise UserError(f"{name}={getattr(self, name)} must be at least {least}.")

  def source(self, split: str) -> Drawings:
    """The pairs of "train" or "heldout"."""
    if split not in SPLITS:
      raise UserError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)}.")
    return Drawings(self, split, self.prepare().vocabulary)

  def prepare(self) -> PreparedShapes:
    """With the tokenizer fitted to all captions."""
    return PreparedShapes(self.tokenizer.fit([caption(*said) for said in all_said()]))

  def example(self) -> pipeline.Batch:
    """One pair of zeros: the keys, shapes and dtypes of what `source` gives."""
    return captions.blank(self.image_size, self.length)


@dataclasses.dataclass(frozen=True)
class PreparedShapes:
  """What there is to prepare: a vocabulary."""

  vocabulary: Vocabulary


class Drawings:
  """The pairs of one split."""

  def __init__(self, dataset: Shapes, split: str, vocabulary: Vocabulary):
    self.dataset, self.split = dataset, split
    self.said = all_said()
    rows = captions.rows(vocabulary, [caption(*x) for x in self.said], dataset.length, None)
    self.tokens, self.ends, _ = rows

  def __len__(self) -> int:
    return self.dataset.examples if self.split == TRAIN else self.dataset.heldout

  def take(self, indices: np.ndarray, epoch: int) -> pipeline.Batch:
    """What is drawn is a function of (seed, split, index), where it stands of the epoch also."""
    seed = 2 * self.dataset.seed + (self.split == TRAIN)
    chosen_B1 = draws.uniform(seed, 0, indices, 1) * len(self.said)
    numbers = chosen_B1[:, 0].astype(int)
    places = draws.uniform(seed, 1 + epoch, indices, 6)
    size = self.dataset.image_size
    return {
      "image": np.stack([draw(*self.said[i], size, p) for i, p in zip(numbers, places)]),
      "picture": np.asarray(indices, np.int32),
      "caption": self.tokens[numbers],
      "caption_end": self.ends[numbers],
      "weights": np.ones(len(indices), np.float32),
    }


def all_said() -> list[tuple[int, int, str]]:
  """What can be drawn: the numbers of two different things, and their relation."""
  pairs = [(i, j) for i in range(len(THINGS)) for j in range(len(THINGS)) if i != j]
  return [(i, j, relation) for i, j in pairs for relation in RELATIONS]


def caption(first: int, second: int, relation: str) -> str:
  """In words."""
  (colour, shape), (other_colour, other_shape) = THINGS[first], THINGS[second]
  return f"a {colour} {shape} {relation} a {other_colour} {other_shape}"


def draw(first: int, second: int, relation: str, size: int, places: np.ndarray) -> np.ndarray:
  """(size, size, 3) uint8; `places` are six fractions: radius and shift of each of the two."""
  image_YXC = np.full((size, size, 3), GROUND, np.uint8)
  direction = np.array(RELATIONS[relation])
  for thing, sign, (radius, *shift) in (
    (first, 1, places[:3]),
    (second, -1, places[3:]),
  ):
    colour, shape = THINGS[thing]
    centre = 0.5 + 0.24 * sign * direction + 0.1 * (np.array(shift) - 0.5)
    inside_YX = _inside(shape, size, centre, 0.12 + 0.07 * radius)
    image_YXC[inside_YX] = COLOURS[colour]
  return image_YXC


def _inside(shape: str, size: int, centre: np.ndarray, radius: float) -> np.ndarray:
  """Which pixels lie in the shape; all lengths are fractions of the side."""
  at = (np.arange(size) + 0.5) / size
  y, x = (at[:, None] - centre[0]) / radius, (at[None, :] - centre[1]) / radius
  match shape:
    case "circle":
      return x**2 + y**2 <= 1
    case "square":
      return np.maximum(abs(x), abs(y)) <= 0.85
    case "triangle":
      return (abs(x) <= (y + 1) / 2) & (y <= 1)
    case _:
      return (np.minimum(abs(x), abs(y)) <= 0.33) & (np.maximum(abs(x), abs(y)) <= 1)
