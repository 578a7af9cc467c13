"""Texts on the screen: whole ones, and such that are read while they grow."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from research.generate.language import NOTHING
from research.generate.samples import continued

# What a terminal would take for commands: a young model of bytes writes these, too.
CONTROLS = {i: "\ufffd" for i in (*range(32), *range(127, 160)) if chr(i) not in "\n\t"}


def show(texts: Sequence[str], stop: str | None = None) -> None:
  """Prints texts, several under their numbers, each up to where `stop` would begin."""
  for number, text in enumerate(texts, 1):
    heading = f"--- sample {number}\n" if len(texts) > 1 else ""
    _print(f"{heading}{_settled(text, stop, whole=True)[0]}\n")


def write(
  pieces: Iterator[np.ndarray],
  words: Any,
  *,
  prompt: str,
  samples: int,
  tokens: int,
  stop: str | None,
) -> bool:
  """Prints the samples, each after its prompt: the first while it grows, then the others.

  Returns:
    Whether one came to an end because the model can read no further.
  """
  before = words.encode(prompt)
  written: list[list[int]] = [[] for _ in range(samples)]
  current, shown = 0, -1  # the sample on the screen, and how much of its text; -1 is not begun

  def text_of(row: int) -> str:
    return continued(words, before, written[row])

  def finished(row: int) -> bool:
    """Whether it ended by itself; one that ended otherwise does so together with all."""
    return words.end in written[row][-1:] or _settled(text_of(row), stop)[1]

  def show(done: Callable[[int], bool]) -> None:
    nonlocal current, shown
    while current < samples:
      if shown < 0:
        _print((f"--- sample {current + 1}\n" if samples > 1 else "") + prompt)
        shown = 0
      whole = done(current)
      text, _ = _settled(text_of(current), stop, whole)
      _print(text[shown:])
      shown = max(shown, len(text))
      if not whole:
        return
      _print("\n")
      current, shown = current + 1, -1

  for new in pieces:
    for row, ids in zip(written, new):
      row.extend(int(i) for i in ids if i != NOTHING)
    show(finished)
    if all(finished(row) for row in range(samples)):
      break
  show(lambda row: True)
  return any(len(ids) < tokens and not finished(row) for row, ids in enumerate(written))


def _settled(text: str, stop: str | None, whole: bool = False) -> tuple[str, bool]:
  """The part of a growing text that will not change any more, and whether `stop` has ended it.

  Held back are a last character whose bytes may not all have come yet, each of which may be read as
  a character, and what may be the beginning of `stop`.
  """
  if stop and stop in text:
    return text[: text.index(stop)], True
  if whole:
    return text, False
  text = text.rstrip("\ufffd")
  for length in range(min(len(stop or ""), len(text)), 0, -1):
    if stop and text.endswith(stop[:length]):
      return text[:-length], False
  return text, False


def _print(text: str) -> None:
  if sys.stdout.isatty():
    text = text.translate(CONTROLS)
  encoding = sys.stdout.encoding or "utf-8"
  print(text.encode(encoding, "replace").decode(encoding), end="", flush=True)
