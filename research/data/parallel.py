"""A user's own pairs of texts: two line-aligned files, or a table with a column for each side."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import sys
import unicodedata
from collections.abc import Iterator
from typing import Protocol

from research.data import files, reading, tables
from research.data.clean import clean
from research.data.task_rows import Entry
from research.errors import UserError

Pair = tuple[str, str]


class Parallel(Protocol):
  """Where pairs come from: a frozen value that opens nothing when constructed."""

  def fingerprint(self) -> str:
    """Changes whenever `read` would give other pairs."""

  def read(self) -> Iterator[Pair]:
    """Sources with their targets, in an order that is always the same."""

  def inputs(self, path: str) -> Iterator[Entry]:
    """Records {"source"} of a file like that of the sources: targets are not asked for."""


@dataclasses.dataclass(frozen=True)
class LineAligned:
  """Line i of one file is the source of line i of the other; either may be a .gz.

  Attributes:
    source, target: the paths, of any ending; "~" is the home folder.
  """

  source: str
  target: str

  def fingerprint(self) -> str:
    """Of the contents."""
    total = hashlib.blake2b(digest_size=16)
    for path in self._paths():
      with reading.opened(path) as file:
        total.update(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest())
    return f"lines {total.hexdigest()}"

  def read(self) -> Iterator[Pair]:
    """The pairs.

    Raises:
      UserError: a file cannot be read, or the files have not as many lines; says which.
    """
    paths = self._paths()
    sides = [_lines(path) for path in paths]
    if len(sides[0]) != len(sides[1]):
      raise UserError(_unaligned(paths, sides))
    yield from zip(*sides)

  def inputs(self, path: str) -> Iterator[Entry]:
    """Records {"source"} of another file, one of every line."""
    return _entries(reading.expanded(path))

  def _paths(self) -> list[pathlib.Path]:
    paths = [reading.expanded(path) for path in (self.source, self.target)]
    for path in paths:
      if not path.is_file():
        raise UserError(f"there is no file {path} (from {pathlib.Path.cwd()}); check the path")
    return paths


@dataclasses.dataclass(frozen=True)
class PairFiles:
  """The pairs in tables: .tsv, .csv or .jsonl, each plain or .gz.

  Attributes:
    pattern: a path or a glob, as of `Files`.
    source, target: names of the columns or of the fields of .jsonl objects; or numbers of columns
      from 0 on, of .tsv files that do not name them in a first line; their lines are rows as they
      stand, and quotes are letters.
  """

  pattern: str
  source: str | int = "source"
  target: str | int = "target"

  def __post_init__(self):
    if type(self.source) is not type(self.target) or self.source == self.target:
      raise UserError(
        f"source={self.source!r} and target={self.target!r} are two names, or two numbers of "
        "columns, such as 0 and 1"
      )

  def fingerprint(self) -> str:
    """Of the contents and the columns."""
    return f"pairs {self.source!r} {self.target!r} {files.Files(self.pattern).fingerprint()}"

  def read(self) -> Iterator[Pair]:
    """The pairs.

    Raises:
      UserError: names the file, the line, and the way out.
    """
    if isinstance(self.source, str):
      for path in files.Files(self.pattern).paths():
        files.table_kind(path)  # of a .txt both columns would be the whole file
      sides = (files.Files(self.pattern, field=name) for name in (self.source, self.target))
      yield from zip(*(side.read() for side in sides), strict=True)
      return
    for path in files.Files(self.pattern).paths():
      if files.kind(path) != ".tsv":
        raise UserError(f"{path}: only a .tsv has columns without names; give names of columns")
      yield from self._numbered(path)

  def inputs(self, path: str) -> Iterator[Entry]:
    """Records {"source"} of another table; of a .txt, one of every line."""
    whole = reading.expanded(path)
    ending = files.kind(whole)
    if ending == ".txt":
      yield from _entries(whole)
    elif isinstance(self.source, int):
      yield from _entries(whole, column=self.source)
    else:
      for row in tables.rows(whole, ending, reading.text(whole), (self.source,)):
        try:
          yield _entry(row.where, tables.text_of(row, self.source))
        except UserError as error:
          yield Entry(row.where, {}, str(error))

  def _numbered(self, path: pathlib.Path) -> Iterator[Pair]:
    needed = max(self.source, self.target) + 1
    for number, line in enumerate(_lines(path), 1):
      cells = line.split("\t")
      if len(cells) < needed:
        raise UserError(
          f"{path}, line {number}: {len(cells)} columns, and column "
          f"{max(self.source, self.target)} is asked for (from 0); add it, or choose others"
        )
      yield cells[self.source], cells[self.target]


@dataclasses.dataclass(frozen=True)
class UnicodeNames:
  """The names of characters and the characters, as this Python knows them: pairs of everyone."""

  def fingerprint(self) -> str:
    """Of the standard's version."""
    return f"unicode {unicodedata.unidata_version}"

  def read(self) -> Iterator[Pair]:
    """About 30,000 letters, 11,000 of them Korean; those that are named by number are left out."""
    for code in range(sys.maxunicode + 1):
      name = unicodedata.name(chr(code), "")
      letter = unicodedata.category(chr(code))[0] == "L"
      if letter and name and not name.endswith(f"{code:X}"):
        yield name.lower(), chr(code)

  def inputs(self, path: str) -> Iterator[Entry]:
    """A name on every line of a file."""
    return _entries(reading.expanded(path))


def _entries(path: pathlib.Path, column: int | None = None) -> Iterator[Entry]:
  """Every line of a file, or what stands there in a column."""
  for number, line in enumerate(_lines(path), 1):
    where, cells = f"{path}, line {number}", line.split("\t")
    if column is None:
      yield _entry(where, line)
    elif column < len(cells):
      yield _entry(where, cells[column])
    else:
      yield Entry(where, {}, f"{where}: {len(cells)} columns, and none is number {column} (from 0)")


def _entry(where: str, text: str) -> Entry:
  source = " ".join(clean(text).split("\n")).strip()
  if not source:
    return Entry(where, {}, f"{where}: there is no text; write one, or remove the line")
  return Entry(where, {"source": source})


def _lines(path: pathlib.Path) -> list[str]:
  """The lines of a file; only line breaks end them, and the last one needs none."""
  lines = reading.text(path).replace("\r\n", "\n").split("\n")
  return lines[:-1] if lines[-1] == "" else lines


def _unaligned(paths: list[pathlib.Path], sides: list[list[str]]) -> str:
  """How many lines, which have no partner, and where the shift may have begun."""
  counts = [len(lines) for lines in sides]
  longer = counts.index(max(counts))
  least, most = min(counts), max(counts)
  which = f"lines {least + 1} to {most} of {paths[longer]} have"
  if most == least + 1:
    which = f"line {most} of {paths[longer]} has"
  message = (
    f"{paths[0]} has {counts[0]:,} lines and {paths[1]} {counts[1]:,}: {which} no partner; line i "
    "of one must be the source of line i of the other"
  )
  for number, (source, target) in enumerate(zip(*sides), 1):
    if bool(source.strip()) != bool(target.strip()):
      empty = paths[bool(source.strip())]
      return f"{message}. The first line that is empty on one side only is {number} of {empty}"
  return message
