"""What is true of a drawn glyph, and how captions say so."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Sequence

from research.data.glyph_styles import KINDS, Style
from research.errors import UserError, nearest

COLOURS = {
  "black": (20, 20, 20),
  "white": (245, 245, 245),
  "grey": (128, 128, 128),
  "red": (205, 30, 30),
  "orange": (240, 135, 20),
  "yellow": (250, 220, 50),
  "green": (30, 145, 55),
  "blue": (40, 70, 205),
  "purple": (130, 40, 165),
  "pink": (250, 165, 195),
}
CONTRAST = 50.0  # of 255: least difference in brightness between ink and ground

# Most say little beside the character, and the last two nothing, as a list of classes would. Style
# and colours tell nearly all pictures of a batch from one another: a model that always reads of
# them learns no letters.
PHRASINGS = (
  "{a_style} {name} in {ink} on {ground}",
  "on {ground}: {a_ink} {style} {name}",
  "{a_style} {name}",
  "{a_ink} {name}",
  "{name}",
  "{a_name}",
)
PLACES = ("name", "style", "ink", "ground", "a_name", "a_style", "a_ink", "a_ground")

CASES = {"Lu": "capital", "Ll": "small", "Lt": "title"}
# First words of letters' names that are no script.
NO_SCRIPTS = ("modifier", "feminine", "masculine", "double-struck", "script", "black-letter")


@dataclasses.dataclass(frozen=True)
class Attributes:
  """What is true of one picture.

  Attributes:
    character: itself.
    name: Unicode's, in small letters.
    kind: "letter", "number", "punctuation" or "symbol".
    script: the first word of a letter's name ("latin", "greek"); "common" of all else.
    case: "capital", "small", "title" or "none".
    family, weight, slant: of the font, see `glyph_styles.Style`.
    ink, ground: the colours' names.
  """

  character: str
  name: str
  kind: str
  script: str
  case: str
  family: str
  weight: str
  slant: str
  ink: str
  ground: str

  @property
  def style(self) -> str:
    """As captions say it."""
    return Style(self.family, self.weight, self.slant, file="").words

  def said(self, phrasing: str) -> str:
    """The caption: `phrasing` with {name}, {style}, {ink}, {ground} filled in.

    {a_name}, {a_style}, {a_ink} and {a_ground} are the same with an article before them.
    """
    words = {place: getattr(self, place) for place in PLACES[:4]}
    articled = {f"a_{place}": with_article(word) for place, word in words.items()}
    return phrasing.format(**words, **articled)


def of_character(character: str) -> dict[str, str]:
  """The attributes that hang on the character alone."""
  category = unicodedata.category(character)
  name = unicodedata.name(character).lower()
  script = name.split()[0]
  if category[0] != "L" or script in NO_SCRIPTS:
    script = "common"
  return {
    "character": character,
    "name": name,
    "kind": KINDS[category[0]],
    "script": script,
    "case": CASES.get(category, "none"),
  }


def with_article(words: str) -> str:
  """ "an oblique serif", "a serif"."""
  return f"{'an' if words[:1] in 'aeiou' else 'a'} {words}"


def palette(inks: Sequence[str], grounds: Sequence[str]) -> list[tuple[str, str]]:
  """Ink and ground: the pairs of these colours that can be told apart by their brightness.

  Raises:
    UserError: there is no such colour, or no such pair.
  """
  for name in (*inks, *grounds):
    if name not in COLOURS:
      raise UserError(
        f"there is no colour {name!r}; choose from: {', '.join(COLOURS)}.{nearest(name, COLOURS)}"
      )
  pairs = [
    (ink, ground)
    for ink in inks
    for ground in grounds
    if abs(_brightness(ink) - _brightness(ground)) >= CONTRAST
  ]
  if not pairs:
    raise UserError(
      f"inks={tuple(inks)} on grounds={tuple(grounds)}: no two of them can be told apart; add "
      "'black' or 'white'."
    )
  return pairs


def _brightness(colour: str) -> float:
  red, green, blue = COLOURS[colour]
  return 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601


def check(phrasings: Sequence[str]) -> None:
  """Raises a UserError where a phrasing has a place that nothing can fill."""
  if not phrasings:
    raise UserError('phrasings=() say nothing; give one, such as "{a_name}".')
  for phrasing in phrasings:
    try:
      phrasing.format(**dict.fromkeys(PLACES, ""))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
      places = ", ".join(f"{{{place}}}" for place in PLACES)
      raise UserError(
        f"the phrasing {phrasing!r} cannot be filled in ({error}); its places are {places}."
      ) from None
