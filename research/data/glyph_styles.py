"""The fonts that matplotlib carries, as styles with names, and what each of them can draw.

Which characters there are is read from the fonts' outlines, not from pixels, so that it is the same
whatever draws them.
"""

from __future__ import annotations

import hashlib
import pathlib
import string
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from research.errors import UserError, nearest

KINDS = {"L": "letter", "N": "number", "P": "punctuation", "S": "symbol"}  # Unicode's categories
PLANE = 0x10000  # beyond it lie mostly the same letters once more, styled for mathematics
# In em, around the baseline: what is larger does not fit beside the others; 1.6 % of all.
TOP, BOTTOM, WIDEST = 1.05, -0.3, 1.3


class Style(NamedTuple):
  """A font: its family, "regular" or "bold", "upright", "italic" or "oblique", and its file."""

  family: str
  weight: str
  slant: str
  file: str

  @property
  def words(self) -> str:
    """As captions say it: "bold italic serif", "serif"."""
    said = (self.weight, self.slant, self.family)
    return " ".join(word for word in said if word not in ("regular", "upright"))


def _family(family: str, files: Sequence[str], slant: str) -> list[Style]:
  looks = (("regular", "upright"), ("bold", "upright"), ("regular", slant), ("bold", slant))
  return [Style(family, *look, file) for look, file in zip(looks, files)]


def _dejavu(name: str, slant: str) -> list[str]:
  return [f"DejaVu{name}{look}" for look in ("", "-Bold", f"-{slant}", f"-Bold{slant}")]


MODERN = "computer modern"
STYLES = (
  *_family("sans-serif", _dejavu("Sans", "Oblique"), "oblique"),
  *_family("serif", _dejavu("Serif", "Italic"), "italic"),
  *_family("monospaced", _dejavu("SansMono", "Oblique"), "oblique"),
  *_family("stix", [f"STIXGeneral{look}" for look in ("", "Bol", "Italic", "BolIta")], "italic"),
  *_family(MODERN, ["cmr10", "cmb10", "cmti10"], "italic"),
  Style(f"{MODERN} sans", "regular", "upright", "cmss10"),
  Style(f"{MODERN} typewriter", "regular", "upright", "cmtt10"),
)
BY_WORDS = {style.words: style for style in STYLES}
# Theirs keep other characters at the numbers of all but these.
MODERN_CHARACTERS = frozenset(string.ascii_letters + string.digits)


class Glyph(NamedTuple):
  """A character in a style, and where its ink has its middle, in em from its origin."""

  character: str
  style: Style
  middle: float


def named(words: Sequence[str]) -> tuple[Style, ...]:
  """Styles by their words, in the order of `STYLES`.

  Raises:
    UserError: there is no such style.
  """
  for name in words:
    if name not in BY_WORDS:
      raise UserError(
        f"there is no style {name!r}; choose from: {', '.join(BY_WORDS)}.{nearest(name, BY_WORDS)}"
      )
  return tuple(style for style in STYLES if style.words in words)


def path(style: Style) -> pathlib.Path:
  """Where matplotlib keeps the font."""
  import matplotlib

  return pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{style.file}.ttf"


def glyphs(styles: Sequence[Style], among: str = "") -> list[Glyph]:
  """What the styles draw: letters, numbers, punctuation and symbols that Unicode names.

  Only those that are `among` these, unless that is empty.

  Of those with the very same outline the first stays, of the first style: a Greek capital alpha
  that is the Latin A, or an arrow that is not bolder in bold, would be a picture with two names.
  They are in the order of their characters, and for each of the styles.
  """
  found = sorted(
    (
      (character, number, outline, middle)
      for number, style in enumerate(styles)
      for character, outline, middle in _outlines(style)
      if not among or character in among
    ),
    key=lambda glyph: glyph[:2],
  )
  seen, kept = set(), []
  for character, number, outline, middle in found:
    if outline not in seen:
      seen.add(outline)
      kept.append(Glyph(character, styles[number], middle))
  return kept


def _outlines(style: Style) -> Iterator[tuple[str, bytes, float]]:
  """Characters, what their outlines are known by, and the middles of these."""
  from matplotlib.ft2font import FT2Font, LoadFlags

  font = FT2Font(str(path(style)))
  for code, index in font.get_charmap().items():
    character = chr(code)
    if not _wanted(character, style):
      continue
    font.load_glyph(index, LoadFlags.NO_SCALE)
    points_N2, kinds_N = font.get_path()
    ink_N2 = points_N2[kinds_N != CLOSES] * (64 / font.units_per_EM)
    if not len(ink_N2):
      continue
    (left, bottom), (right, top) = ink_N2.min(axis=0), ink_N2.max(axis=0)
    if top <= TOP and bottom >= BOTTOM and right - left <= WIDEST:
      outline = hashlib.blake2b(ink_N2.tobytes() + kinds_N.tobytes(), digest_size=16).digest()
      yield character, outline, float(left + right) / 2


CLOSES = 79  # what ends a contour of matplotlib's; it is no point


def _wanted(character: str, style: Style) -> bool:
  if style.family.startswith(MODERN):
    return character in MODERN_CHARACTERS
  return (
    ord(character) < PLANE
    and unicodedata.category(character)[0] in KINDS
    and bool(unicodedata.name(character, ""))
  )
