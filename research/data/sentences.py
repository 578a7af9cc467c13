"""Where one sentence of a text ends and the next begins."""

from __future__ import annotations

import re

# After a mark that ends sentences and what closes with it (quotes, brackets), where white space
# follows and no small letter; after an empty line; after a mark of Chinese and Japanese (full
# stop, full-width ! and ?), which need no space. Marks in a row begin with the first: tried from
# each, their time would go with the square.
END = re.compile(
  r"""(?<![.!?\u2026])[.!?\u2026]+["'\u201d\u2019\u00bb)\]]*(?=\s+[^\sa-z])"""
  r"""|(?<=\S)(?=\s*\n[ \t]*\n)"""
  r"""|[\u3002\uff01\uff1f]+[\u300d\u300f\u201d\u2019\uff09]*"""
)
# What ends with a dot in the middle of a sentence: titles, references, initials.
SHORT = re.compile(
  r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Gen|Col|Capt|Lt|Sen|Rep|Gov|Inc|Ltd|Co|vs|etc|cf|al|approx"
  r"|No|Nos|Fig|Figs|Eq|Sec|Ch|Vol|pp|ed|eds|e\.g|i\.e|viz|a\.m|p\.m)|\b[A-Z]|\b[A-Z]\.[A-Z])\.$"
)


def sentences(text: str) -> list[str]:
  """The sentences of a text, each with the white space before it: joined, they are the text.

  A rule and not a model: it needs white space after a mark and no small letter after that, and
  knows the abbreviations of English. White space alone is no sentence.
  """
  found: list[str] = []
  start = 0
  for end in END.finditer(text):
    piece = text[start : end.end()]
    if piece.strip() and not SHORT.search(piece[-12:]):
      found.append(piece)
      start = end.end()
  rest = text[start:]
  if rest.strip() or not found:
    return [*found, rest]
  return [*found[:-1], found[-1] + rest]
