"""What the columns of a row say of a picture: its captions, and all else, by name.

A caption is a column, or a text with columns in braces; a column may hold several.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from research.data import tables
from research.data.clean import clean
from research.errors import UserError, nearest

Names = str | tuple[str, ...]
_COLUMN = re.compile(r"\{([^{}]+)\}")  # in a caption made of columns


def needs(*names: Names) -> list[str]:
  """The columns that a table must have: those named, and those in the braces of a caption."""
  return list(
    dict.fromkeys(column for name in _each(names) for column in _COLUMN.findall(name) or [name])
  )


def _each(names: Sequence[Names]) -> list[str]:
  return [name for given in names for name in ((given,) if isinstance(given, str) else given)]


def one(row: tables.Row, name: str) -> str:
  """The text in a column."""
  text = tables.text_of(row, name)
  if not text.strip():
    raise UserError(f"{row.where}: {name!r} is empty; every pair has a picture and a caption.")
  return text


class Captions:
  """The captions in some columns of rows that come one after the other.

  Attributes:
    names: of the columns.
  """

  def __init__(self, names: Names):
    self.names = _each([names])
    self._columns = needs(names)
    self._unseen = set(self._columns)
    self._last: tables.Row | None = None

  def of(self, row: tables.Row) -> tuple[str, ...]:
    """All captions of a row, cleaned; a column may be missing or empty, but not all of them.

    Raises:
      UserError: a column holds something else, or there is no caption at all.
    """
    if row.problem:
      raise UserError(row.problem)
    self._last = row
    self._unseen -= {name for name in self._unseen if field(row.cells, name) is not None}
    said = [clean(text) for name in self.names for text in _texts(row, name)]
    said = tuple(dict.fromkeys(text for text in said if text.strip()))
    if not said:
      if all(field(row.cells, column) is None for column in self._columns):
        tables.text_of(row, self._columns[0])  # which says what there is
      columns = " and ".join(map(repr, self.names))
      raise UserError(f"{row.where}: {columns} is empty; every pair has a picture and a caption.")
    return said

  def check(self) -> None:
    """Raises a UserError where a column was in no row at all (its name is mistaken), or empty."""
    if self._unseen and self._last is not None:
      name, known = min(self._unseen), list(self._last.cells)
      if name in known:
        raise UserError(
          f"up to {self._last.where}, field {name!r} is nothing but null; every pair has a picture "
          "and a caption."
        )
      raise UserError(
        f"up to {self._last.where}, nothing has a field {name!r}; there are: "
        f"{', '.join(map(str, known))}.{nearest(name, map(str, known))}"
      )


def _texts(row: tables.Row, name: str) -> list[str]:
  if columns := _COLUMN.findall(name):
    said = {column: ", ".join(_texts(row, column)) for column in columns}
    filled = all(text.strip() for text in said.values())
    return [_COLUMN.sub(lambda found: said[found[1]], name)] if filled else []
  found = field(row.cells, name)
  if found is None:
    return []
  if isinstance(found, list) and all(isinstance(text, str) for text in found):
    return found
  if not isinstance(found, str):
    kind = type(found).__name__
    raise UserError(f"{row.where}: {name!r} is a {kind}; a caption is a string, or a list of them.")
  return [found]


def field(cells: Any, name: str) -> Any:
  """What stands under "name", or under "outer/inner"; None where nothing does."""
  if isinstance(cells, dict) and name in cells:
    return cells[name]
  outer, slash, inner = name.partition("/")
  if slash and isinstance(cells, dict) and outer in cells:
    return field(cells[outer], inner)
  return None
