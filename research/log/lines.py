"""Files of JSON lines: one object a line, valid JSON whatever the numbers and texts are."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from research import disk
from research.errors import RunError

Line = dict[str, Any]


def append(path: Path) -> TextIO:
  """Opens a file for more lines."""
  # A lone surrogate is written as \udXXX, which is how JSON itself writes it.
  return open(path, "a", encoding="utf-8", errors="backslashreplace", newline="\n")


def encode(line: Mapping[str, Any]) -> str:
  """One line; a number that is not finite becomes "NaN", "Infinity" or "-Infinity"."""
  return json.dumps(_plain(line), ensure_ascii=False, allow_nan=False) + "\n"


def read(path: Path) -> tuple[list[Line], int]:
  """The objects of a file (none where there is no file), and how many lines are not objects."""
  if not path.exists():
    return [], 0
  lines, broken = [], 0
  with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
    for text in file:
      try:
        line = json.loads(text)
      except (ValueError, RecursionError):
        line = None
      if isinstance(line, dict):
        lines.append(line)
      elif text.strip():
        broken += 1
  return lines, broken


def rewrite(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
  """Replaces a file at once: after a crash it is the old one or the new one."""
  disk.replace(path, "".join(encode(line) for line in lines))


def keep(path: Path, start: int) -> list[Line]:
  """Drops the lines of steps after `start`, and broken ones; returns those that stay.

  A run that was killed wrote lines after its last checkpoint; resumed, it writes them again.
  At 0 nothing stays, since everything is then done anew.
  """
  lines = read(path)[0] if start else []
  lines = [line for line in lines if number(line.get("step", 0)) <= start]
  rewrite(path, lines)
  return lines


@contextlib.contextmanager
def written(path: str | Path) -> Iterator[None]:
  """RunError where the disk does not take what the block writes to `path`."""
  try:
    yield
  except OSError as error:
    raise RunError(
      f"{path} cannot be written: {error.strerror or error}; make room, and the same command goes "
      "on from the last checkpoint."
    ) from error


def number(value: Any) -> float:
  """The number that a line holds, which may be "NaN" or "Infinity"; NaN for anything else."""
  try:
    return float(value)
  except (TypeError, ValueError, OverflowError):
    return math.nan


def _plain(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {str(key): _plain(part) for key, part in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(part) for part in value]
  if isinstance(value, str | bool | int) or value is None:
    return value
  value = float(value)
  if math.isnan(value):
    return "NaN"
  return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
