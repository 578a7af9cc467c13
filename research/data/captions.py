"""Captions as rows of tokens, and tables that name a picture and its caption in every line."""

from __future__ import annotations

import csv
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from research.data.clean import clean
from research.data.vocabulary import Vocabulary
from research.errors import UserError, nearest

DELIMITERS = {".tsv": "\t", ".csv": ","}


def rows(
  vocabulary: Vocabulary, captions: Sequence[str], length: int, start: int | None
) -> tuple[np.ndarray, np.ndarray, int]:
  """(N, length) int32 tokens, (N,) int32 places of their ends, and how many were too long.

  A row is the start token where there is one, the caption, end-of-text, and zeros. Of a caption
  that is too long the beginning is kept.
  """
  tokens = np.zeros((len(captions), length), np.int32)
  ends = np.zeros(len(captions), np.int32)
  first = [] if start is None else [start]
  longest = length - 1 - len(first)
  cut = 0
  for i, ids in enumerate(vocabulary.encode_all(captions)):
    cut += len(ids) > longest
    row = np.concatenate([np.array(first, np.int32), ids[:longest], [vocabulary.end]])
    tokens[i, : len(row)], ends[i] = row, len(row) - 1
  return tokens, ends, cut


def blank(image_size: int, length: int) -> dict[str, np.ndarray]:
  """One pair of zeros: the keys, shapes and dtypes of a batch."""
  return {
    "image": np.zeros((1, image_size, image_size, 3), np.uint8),
    "caption": np.zeros((1, length), np.int32),
    "caption_end": np.zeros(1, np.int32),
    "weights": np.ones(1, np.float32),
  }


@dataclasses.dataclass(frozen=True)
class Line:
  """A line of a table: its number, the picture's file, the caption, and all that it says."""

  number: int
  image: pathlib.Path
  caption: str
  columns: dict[str, str]


def table(path: pathlib.Path, folder: pathlib.Path, image: str, caption: str) -> list[Line]:
  """The lines of a .jsonl table, or of a .tsv or .csv one whose first line names the columns.

  Args:
    path: of the table.
    folder: that its files lie in.
    image, caption: the names of the two columns.

  Raises:
    UserError: the table or a line of it cannot be used; a file that lies outside the folder.
  """
  home = folder.resolve()
  if not home.is_dir():
    raise UserError(f"{folder} is no folder; give the one that the table's files lie in.")
  lines = []
  for number, columns in _records(path):
    for name in (image, caption):
      if not isinstance(columns.get(name), str) or not columns[name].strip():
        known = ", ".join(str(key) for key in columns)
        raise UserError(
          f"{path}:{number} has no text under {name!r}.{nearest(name, map(str, columns))} "
          f"It has {known or 'nothing'}."
        )
    file = (home / columns[image]).resolve()
    if not file.is_relative_to(home):
      raise UserError(f"{path}:{number} names {columns[image]!r}, which lies outside {folder}.")
    lines.append(Line(number, file, clean(columns[caption]), columns))
  if not lines:
    raise UserError(f"{path} names no pictures; give a table with a line for each pair.")
  return lines


def _records(path: pathlib.Path) -> Iterator[tuple[int, dict]]:
  kinds = [".jsonl", *DELIMITERS]
  if path.suffix not in kinds:
    raise UserError(f"{path} is no table of pairs; its name ends in one of {', '.join(kinds)}.")
  try:
    with path.open(encoding="utf-8", newline="") as file:
      if path.suffix == ".jsonl":
        for number, text in enumerate(file, 1):
          if text.strip():
            yield number, _object(path, number, text)
      else:
        reader = csv.DictReader(file, delimiter=DELIMITERS[path.suffix])
        for columns in reader:
          yield reader.line_num, columns
  except OSError as error:
    raise UserError(f"{path} cannot be read ({error.strerror}); check the path.") from None
  except (UnicodeDecodeError, csv.Error) as error:
    raise UserError(f"{path} cannot be read ({error}); it has to be UTF-8 text.") from None


def _object(path: pathlib.Path, number: int, text: str) -> dict:
  try:
    columns = json.loads(text)
  except ValueError as error:
    raise UserError(f"{path}:{number} is no JSON ({error}); write one object a line.") from None
  if not isinstance(columns, dict):
    raise UserError(f"{path}:{number} is no JSON object; write names and values in braces.")
  return columns
