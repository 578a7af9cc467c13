"""Captions as rows of tokens, and tables that name a picture and its caption in every line."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from research.data import reading, tables
from research.data.bad_records import BadRecords
from research.data.clean import clean
from research.data.vocabulary import Vocabulary
from research.errors import UserError


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
  """A line of a table: where it stands, the picture's file, the caption, and all that it says."""

  where: str
  image: pathlib.Path
  caption: str
  columns: dict[str, object]


def table(
  path: pathlib.Path, folder: pathlib.Path, image: str, caption: str, bad: BadRecords
) -> list[Line]:
  """The lines of a .jsonl table, or of a .tsv or .csv one whose first line names the columns.

  Args:
    path: of the table, which may be compressed (.gz).
    folder: that its files lie in.
    image, caption: the names of the two columns.
    bad: takes the lines that cannot be used: no caption, or a file that lies outside the folder.

  Raises:
    UserError: the table cannot be used, or a line of it where none may be bad.
  """
  home = folder.resolve()
  if not home.is_dir():
    raise UserError(f"{folder} is no folder; give the one that the table's files lie in.")
  ending = "".join(path.suffixes[-2:]).removesuffix(".gz").lower()
  ending = ending if ending in tables.KINDS else path.suffix.lower()
  if ending not in tables.KINDS:
    known = ", ".join(tables.KINDS)
    raise UserError(f"{path} is no table of pairs; its name ends in one of {known}, or .gz.")
  lines = []
  for row in tables.rows(path, ending, reading.text(path), needs=(image, caption)):
    try:
      lines.append(_line(row, home, image, caption))
    except UserError as error:
      bad.leave_out(str(error))
  if not lines and not bad.count:
    raise UserError(f"{path} names no pictures; give a table with a line for each pair.")
  return lines


def _line(row: tables.Row, home: pathlib.Path, image: str, caption: str) -> Line:
  name, said = tables.text_of(row, image), clean(tables.text_of(row, caption))
  for field, value in ((image, name), (caption, said)):
    if not value.strip():
      raise UserError(f"{row.where}: {field!r} is empty; every pair has a picture and a caption.")
  try:
    file = (home / name).resolve()
  except (OSError, ValueError, RuntimeError):
    raise UserError(f"{row.where}: {name[:80]!r} cannot be a path.") from None
  if not file.is_relative_to(home):
    raise UserError(f"{row.where} names {name[:80]!r}, which lies outside {home}.")
  return Line(row.where, file, said, row.cells)
