"""The three ways to write entities as a tag for each word, and entities as spans of words.

IOB1    I-X inside; B-X only where an entity follows another of its type (Ramshaw and Marcus, 1995)
IOB2    B-X begins every entity, I-X goes on with it (Tjong Kim Sang and Veenstra, 1999)
BIOES   as IOB2, but E-X ends an entity of several words, and S-X is one of a single word
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from research.errors import UserError, nearest

SCHEMES = {"IOB1": "IBO", "IOB2": "IBO", "BIOES": "BIOES"}


class Entity(NamedTuple):
  """Words `begin` to `end` (not included) are of a type."""

  type: str
  begin: int
  end: int


def entities(tags: Sequence[str], scheme: str) -> list[Entity]:
  """The entities that tags spell.

  Raises:
    UserError: a tag is none of the scheme, or cannot follow the one before; says the word's number.
  """
  parts = [_part(tag, number, scheme) for number, tag in enumerate(tags, 1)]
  found: list[Entity] = []
  open_type, begin = None, 0  # of the entity that the words before may go on with
  for i, (letter, kind) in enumerate([*parts, ("O", "")]):
    goes_on = open_type is not None and kind == open_type and letter in "IE"
    if not goes_on:
      if open_type is not None:
        if scheme == "BIOES":
          raise UserError(
            f"word {i}: {tags[i - 1]!r} is followed by {_said(tags, i)}, but E-{open_type} must "
            "end an entity of several words; correct the tags, or give their scheme"
          )
        found.append(Entity(open_type, begin, i))
      open_type = None
      if letter in "IE" and scheme != "IOB1":
        raise UserError(
          f"word {i + 1}: {tags[i]!r} follows {_said(tags, i - 1)}, and goes on with nothing: "
          f"B-{kind} must stand before it; correct the tags, or give their scheme (IOB1 begins so)"
        )
      if letter in "BIS":
        open_type, begin = kind, i
    if letter in "ES":
      found.append(Entity(kind, begin, i + 1))
      open_type = None
  return found


def spelled(found: Sequence[Entity], words: int) -> list[str]:
  """The tags of IOB2 of entities that do not overlap."""
  tags = ["O"] * words
  for kind, begin, end in found:
    tags[begin:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - begin - 1)
  return tags


def _part(tag: str, number: int, scheme: str) -> tuple[str, str]:
  letter, _, kind = tag.partition("-")
  if letter not in SCHEMES[scheme] or (letter == "O") == bool(kind) or len(letter) != 1:
    raise UserError(
      f"word {number}: {tag[:80]!r} is no tag of {scheme}: write O, or one of "
      f"{', '.join(c for c in SCHEMES[scheme] if c != 'O')}, a dash and a type"
    )
  return letter, kind


def _said(tags: Sequence[str], i: int) -> str:
  return repr(tags[i]) if 0 <= i < len(tags) else "nothing"


def check(scheme: str) -> None:
  """Raises a UserError for a scheme that is none of these."""
  if scheme not in SCHEMES:
    raise UserError(
      f"scheme={scheme!r} is not one of {', '.join(SCHEMES)}.{nearest(scheme, SCHEMES)}"
    )
