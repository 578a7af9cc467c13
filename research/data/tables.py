"""Tables of .jsonl, .csv and .tsv: their rows by name, and what is wrong with a row."""

from __future__ import annotations

import csv
import io
import json
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from research.errors import UserError, nearest

DELIMITERS = {".csv": ",", ".tsv": "\t"}
KINDS = (".jsonl", *DELIMITERS)
LINE_BREAK = re.compile("\r\n|\r|\n")


class Row(NamedTuple):
  """A row of a table.

  Attributes:
    where: it stands: file and line.
    cells: by name; nothing where the row cannot be read.
    problem: why it cannot be, or nothing.
  """

  where: str
  cells: dict[str, Any]
  problem: str = ""


def rows(path: pathlib.Path, ending: str, text: str, needs: Sequence[str]) -> Iterator[Row]:
  """The rows of a table in turn.

  Args:
    path: for messages.
    ending: one of `KINDS`.
    text: of the whole table.
    needs: columns that a .csv or .tsv table must have; of .jsonl each row may have others.

  Raises:
    UserError: the first line of a .csv or .tsv table does not name the columns.
  """
  if ending == ".jsonl":
    yield from _objects(path, text)
  else:
    yield from _cells(path, text, DELIMITERS[ending], needs)


def text_of(row: Row, name: str) -> str:
  """The text under a name.

  Raises:
    UserError: the row cannot be read, or has no text there.
  """
  if row.problem:
    raise UserError(row.problem)
  if name not in row.cells:
    raise UserError(_missing(row.where, name, row.cells))
  value = row.cells[name]
  if not isinstance(value, str):
    raise UserError(f"{row.where}: field {name!r} is a {type(value).__name__}; it must be a string")
  return value


def _missing(where: str, name: str, names: Iterable[object]) -> str:
  """That there is no such name, and which there are."""
  names = [str(known)[:80] for known in names]
  listed = ", ".join(names[:20]) or "none"
  return (
    f"{where}: no field {name!r}; there are: {listed}.{nearest(name, names)} Choose one of these."
  )


def _objects(path: pathlib.Path, text: str) -> Iterator[Row]:
  # Not splitlines: JSON strings may hold U+2028 and its like as they are.
  for number, line in enumerate(text.split("\n"), 1):
    if not line.strip():
      continue
    where = f"{path}, line {number}"
    try:
      found = json.loads(line)
    except (ValueError, RecursionError) as error:
      reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
      reason = getattr(error, "msg", reason)
      yield Row(where, {}, f"{where}: this is not JSON ({reason}); every line must be one object")
      continue
    if isinstance(found, dict):
      yield Row(where, found)
    else:
      kind = type(found).__name__
      yield Row(
        where, {}, f"{where}: a {kind} instead of an object; write names and values in {{}}"
      )


def _cells(path: pathlib.Path, text: str, delimiter: str, needs: Sequence[str]) -> Iterator[Row]:
  csv.field_size_limit(sys.maxsize)  # a document may be longer than the module's 131,072
  # newline="": quoted cells keep their line breaks as they are.
  reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
  quote = f"quote cells that hold {delimiter!r}, quotes or line breaks"
  try:
    names = next(reader, [])
  except csv.Error as error:
    raise UserError(f"{path}, line {reader.line_num}: {error}; {quote}") from None
  if twice := [name for name in names if names.count(name) > 1]:
    raise UserError(f"{path}, line 1: two columns are called {twice[0][:80]!r}; rename one")
  for name in needs:
    if name not in names:
      raise UserError(_missing(f"{path}, line 1", name, names))
  while True:
    begun = reader.line_num + 1
    try:
      cells = next(reader, None)
      problem = _swallowed(cells or [], len(names)) if delimiter == DELIMITERS[".tsv"] else ""
    except csv.Error as error:
      problem = str(error)
    if problem:
      # What a stray quote swallows up to the next one is as many bad rows as lines.
      for number in range(begun, reader.line_num + 1):
        where = f"{path}, line {number}"
        of = "" if number == begun else f" in the row that begins at line {begun}"
        yield Row(where, {}, f"{where}: {problem}{of}; {quote}")
      continue
    if cells is None:
      return
    where = f"{path}, line {reader.line_num}"
    if len(cells) < len(names):
      if cells:  # an empty line is no row
        ends = f"the row ends before column {names[len(cells)]!r}"
        yield Row(where, {}, f"{where}: {ends}; add the missing cells")
    elif len(cells) > len(names):
      count = f"{len(cells)} cells where line 1 names {len(names)} columns"
      yield Row(where, {}, f"{where}: {count}; {quote}")
    else:
      yield Row(where, dict(zip(names, cells)))


def _swallowed(cells: Sequence[str], columns: int) -> str:
  """Why a row of a .tsv is none: each of its lines alone would be one; "" where that is not so."""
  lines = LINE_BREAK.split("\t".join(cells))
  if min(len(lines), columns) < 2 or any(line.count("\t") != columns - 1 for line in lines):
    return ""
  return "a quoted cell holds whole rows (if it should, write .jsonl)"
