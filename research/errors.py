"""What ends a command with one line, and the exit codes by which launchers decide what comes next.

0 done; 1 failed, and may succeed when tried again; 2 the user's mistake, 3 checkpoints that cannot
be read or written, 4 numbers that are not finite: no repetition helps; 42 stopped early, with a
checkpoint: run it again. A process that died of a signal left no code of ours (134, 137, ...): run
it again.
"""

import difflib
from collections.abc import Iterable
from typing import Any

LONGEST = 200  # letters of what is shown of a value, or of another library's error


class RunError(Exception):
  """What the next try may find mended, such as a machine that is not up yet."""

  exit_code = 1


class UserError(RunError):
  """What the user gave cannot be used: the value, the rule, the way out."""

  exit_code = 2


class IntegrityError(RunError):
  """Checkpoints that are damaged, or that the disk does not take."""

  exit_code = 3


class NumericsError(RunError):
  """Losses or gradients that stay infinite or no numbers."""

  exit_code = 4


def nearest(word: str, words: Iterable[str]) -> str:
  """` Did you mean 'width'?` for the closest of `words`, or nothing when none is close."""
  close = difflib.get_close_matches(word, list(words), n=1)
  return f" Did you mean {close[0]!r}?" if close else ""


def shown(value: Any) -> str:
  """A value as Python writes it, cut where it is long."""
  try:
    return _cut(repr(value))
  except Exception:  # repr is the user's code, too
    return f"a {type(value).__name__}"


def reason(error: BaseException) -> str:
  """What another library says of a failure, in one line that begins with its kind."""
  said = " ".join(str(error).split()).rstrip(".")
  kind = type(error).__name__
  return _cut(f"{kind}: {said}" if said else kind)


def _cut(text: str) -> str:
  return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
