"""A user's mistake, told in one line: the value, the rule, the way out."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
  """What the user gave cannot be used; the command line prints it and exits with 2."""


def nearest(word: str, words: Iterable[str]) -> str:
  """` Did you mean 'width'?` for the closest of `words`, or nothing when none is close."""
  close = difflib.get_close_matches(word, list(words), n=1)
  return f" Did you mean {close[0]!r}?" if close else ""
