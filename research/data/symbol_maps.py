"""Symbols and what they stand for, said anew in every text: all there is to learn is to look.

A text is one map of eight small letters to capital ones, told by pairs, "bQ fA bQ ...": which
capital follows a letter is not known before the text has said it, and then it is certain. That a
repeated symbol is followed by what followed it before is what in-context learning begins with
(Olsson et al., 2022).
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Iterator

import numpy as np

from research.data.problems import Problem
from research.errors import UserError

LETTERS, CAPITALS = np.array(list(string.ascii_lowercase)), np.array(list(string.ascii_uppercase))


@dataclasses.dataclass(frozen=True)
class SymbolMaps:
  """Texts of maps, to learn from, and problems of other maps; `Documents` and `Problems`.

  Attributes:
    maps: how many texts there are, each of a map of its own.
    pairs: of a symbol and its image in a text, drawn with replacement.
    symbols: how many a map is of, and of how many an image is one; at most 26.
    asked: problems, of as many maps.
    seed: of everything.
  """

  maps: int
  pairs: int
  symbols: int = 8
  asked: int = 512
  seed: int = 0

  def __post_init__(self):
    for field in ("maps", "pairs", "asked"):
      if getattr(self, field) < 1:
        raise UserError(f"{field}={getattr(self, field)} must be at least 1.")
    if not 2 <= self.symbols <= len(LETTERS):
      raise UserError(f"symbols={self.symbols}: there are 26 letters; choose 2 to 26.")

  def fingerprint(self) -> str:
    """Of what is drawn."""
    return f"symbol maps 1 {self!r}"

  def read(self) -> Iterator[str]:
    """The texts."""
    for number in range(self.maps):
      yield "".join(self._pairs(self._draws("text", number), self.pairs))

  def problems(self, shots: int) -> Iterator[Problem]:
    """What a symbol stands for after `shots` pairs of its map; some have not shown it.

    Those of few shots are the first of more, and the question is the same.
    """
    for number in range(self.asked):
      asked, *shown = self._pairs(self._draws("problem", number), 1 + shots)
      yield Problem("".join(shown) + asked[0], asked[1])

  def chance(self) -> float:
    """How often a guess is right."""
    return 1 / self.symbols

  def _draws(self, what: str, number: int) -> np.random.RandomState:
    return np.random.RandomState([self.seed, ("text", "problem").index(what), number])

  def _pairs(self, draws: np.random.RandomState, count: int) -> list[str]:
    image = draws.randint(self.symbols, size=self.symbols)
    chosen = draws.randint(self.symbols, size=count)
    letters, images = LETTERS[chosen], CAPITALS[image[chosen]]
    return [f"{letter}{image} " for letter, image in zip(letters, images)]
