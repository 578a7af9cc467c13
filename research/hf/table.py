"""Name tables: which of our parameters a tensor of theirs is, readable in both directions.

A row gives two names and two layouts in the letters of `nn/layers.py`. Ours `DHK` lies in theirs as
`(HK)D`: heads and key size make one axis, which comes first. From the letters and their sizes
follow both shapes and both ways.

  *        in a name: the number of a layer
  (HK)     one axis made of two
  1        an axis of size one
  a|b|c    in our name: several parameters that are one tensor of theirs, side by side along S
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

import numpy as np

REPEATED = "repeated"  # the part of tensors that say again what another one says


@dataclasses.dataclass(frozen=True)
class Row:
  """One tensor of theirs and what it is here.

  Attributes:
    theirs, layout: its name, with the prefix that models with a head have, and how it lies.
    ours, letters: the path of the parameter and its axes.
    part: the head that it belongs to, which a checkpoint has whole or not at all; "" for what every
      checkpoint of the family has. REPEATED ones may be there, and are not written.
  """

  theirs: str
  layout: str
  ours: str
  letters: str
  part: str = ""

  def paths(self) -> list[str]:
    """Our parameters that the tensor holds."""
    parts = self.ours.split("/")
    at = next((i for i, part in enumerate(parts) if "|" in part), None)
    if at is None:
      return [self.ours]
    return ["/".join([*parts[:at], name, *parts[at + 1 :]]) for name in parts[at].split("|")]


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows with the sizes of their letters.

  Attributes:
    rows: the tensors; those with a * stand for one of each layer.
    sizes: letter -> size.
    depth: number of layers.
    theirs, ours: what stands before all the names.
  """

  rows: tuple[Row, ...]
  sizes: Mapping[str, int]
  depth: int = 0
  theirs: str = ""
  ours: str = ""

  def tensors(self) -> Iterator[Tensor]:
    """Every tensor that the table names, one layer after the other."""
    for row in self.rows:
      for layer in range(self.depth) if "*" in row.theirs else (0,):
        theirs, *ours = (
          prefix + name.replace("*", str(layer))
          for prefix, name in [(self.theirs, row.theirs), *((self.ours, p) for p in row.paths())]
        )
        yield Tensor(theirs, tuple(ours), row, {**self.sizes, "S": len(ours)})


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A row for one layer: names without *, and sizes."""

  theirs: str
  ours: tuple[str, ...]
  row: Row
  sizes: Mapping[str, int]

  @property
  def shape(self) -> tuple[int, ...]:
    """Of theirs."""
    return self._shape(_axes(self.row.layout))

  def read(self, array: np.ndarray) -> dict[str, np.ndarray]:
    """Their tensor as our parameters, by path."""
    flat, wanted = _letters(self.row.layout), self._wanted()
    array = array.reshape([self.sizes[letter] for letter in flat])
    array = array.transpose([flat.index(letter) for letter in wanted])
    pieces = array if wanted[:1] == "S" else array[None]
    shape = self._shape(_axes(self.row.letters))
    return {
      path: np.ascontiguousarray(piece).reshape(shape) for path, piece in zip(self.ours, pieces)
    }

  def write(self, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
    """Their tensor from our parameters: the inverse of `read`."""
    flat, wanted = _letters(self.row.layout), self._wanted()
    pieces = np.stack([np.asarray(parameters[path]) for path in self.ours])
    array = pieces.reshape([self.sizes[letter] for letter in wanted])
    array = array.transpose([wanted.index(letter) for letter in flat])
    return np.ascontiguousarray(array).reshape(self.shape)

  def _wanted(self) -> str:
    """Our order of the letters, S before all."""
    return ("S" if "S" in self.row.layout else "") + _letters(self.row.letters)

  def _shape(self, axes: list[str]) -> tuple[int, ...]:
    return tuple(math.prod(self.sizes[letter] for letter in axis if letter != "1") for axis in axes)


def _axes(layout: str) -> list[str]:
  """`"D(HK)"` -> `["D", "HK"]`."""
  return [together or alone for together, alone in re.findall(r"\((\w+)\)|(\w)", layout)]


def _letters(layout: str) -> str:
  return "".join(_axes(layout)).replace("1", "")


def linear(theirs: str, ours: str, inputs: str, outputs: str, part: str = "") -> tuple[Row, Row]:
  """The rows of a `torch.nn.Linear`: weight (out, in) and bias (out,)."""
  weight = Row(
    f"{theirs}.weight", _axis(outputs) + _axis(inputs), f"{ours}/kernel", inputs + outputs, part
  )
  return weight, Row(f"{theirs}.bias", _axis(outputs), f"{ours}/bias", outputs, part)


def norm(theirs: str, ours: str, letter: str = "D", part: str = "") -> tuple[Row, Row]:
  """The rows of a layer norm: weight and bias."""
  scale = Row(f"{theirs}.weight", letter, f"{ours}/scale", letter, part)
  return scale, Row(f"{theirs}.bias", letter, f"{ours}/bias", letter, part)


def _axis(letters: str) -> str:
  return f"({letters})" if len(letters) > 1 else letters
