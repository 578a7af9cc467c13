"""A user's own files as documents: .txt, .jsonl, .csv and .tsv, each plain or .gz."""

from __future__ import annotations

import csv
import dataclasses
import glob
import gzip
import hashlib
import io
import json
import pathlib
import sys
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from research.data.paths import reach
from research.errors import UserError, nearest

KINDS = (".txt", ".jsonl", ".csv", ".tsv")


@dataclasses.dataclass(frozen=True)
class Files:
  """The documents of all files that match `pattern`, in the order of their paths.

  Attributes:
    pattern: a path, or a glob such as "books/**/*.txt", also through a tar or zip, as in
      "books.tar.gz/**/*.txt"; "~" is the home folder.
    field: of .jsonl objects and .csv or .tsv columns: the one with the text.
    separator: splits each .txt file into documents, e.g. "<|endoftext|>", or "\\n" where every
      line is one; line breaks beside it go. Otherwise a .txt file is one document.
  """

  pattern: str
  field: str = "text"
  separator: str | None = None

  def paths(self) -> list[pathlib.Path]:
    """The files, sorted.

    Raises:
      UserError: nothing matches, or a file is of an unknown kind.
    """
    pattern = str(reach(self.pattern))
    # A path that exists is meant as it stands, even with brackets in its name.
    names = [pattern] if pathlib.Path(pattern).exists() else glob.glob(pattern, recursive=True)
    paths = sorted(pathlib.Path(name) for name in names if not pathlib.Path(name).is_dir())
    if not paths:
      if pathlib.Path(pattern).is_dir():
        raise UserError(f"{self.pattern} is a folder; write {self.pattern.rstrip('/')}/*.txt")
      raise UserError(
        f"no file matches {self.pattern!r} (from {pathlib.Path.cwd()}); check the path"
      )
    for path in paths:
      kind(path)
    return paths

  def fingerprint(self) -> str:
    """Of the contents: it changes with any byte of any file, not with their dates or folders."""
    total = hashlib.blake2b(repr((self.field, self.separator)).encode(), digest_size=16)
    for path in self.paths():
      total.update(kind(path).encode())
      with open_bytes(path) as file:
        total.update(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest())
    return total.hexdigest()

  def read(self) -> Iterator[str]:
    """The documents, one after the other.

    Raises:
      UserError: names the file, the line, and the way out.
    """
    if self.separator == "":
      raise UserError(
        'separator="" splits nothing; leave it out, or give the text between documents'
      )
    for path in self.paths():
      text = read_text(path)
      match kind(path):
        case ".txt" if self.separator is not None:
          parts = text.replace("\r\n", "\n").split(self.separator)
          yield from (part.strip("\n") for part in parts)
        case ".txt":
          yield text
        case ".jsonl":
          yield from self._json(path, text)
        case ending:
          yield from self._table(path, text, "\t" if ending == ".tsv" else ",")

  def _json(self, path: pathlib.Path, text: str) -> Iterator[str]:
    # Not splitlines: JSON strings may hold U+2028 and its like as they are.
    for number, line in enumerate(text.split("\n"), 1):
      if not line.strip():
        continue
      where = f"{path}, line {number}"
      try:
        row = json.loads(line)
      except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
        raise UserError(
          f"{where}: this is not JSON ({reason}); every line must be one object"
        ) from None
      if not isinstance(row, dict):
        raise UserError(
          f'{where}: a {type(row).__name__} instead of an object; write {{"{self.field}": ...}}'
        )
      yield self._field(row, where)

  def _table(self, path: pathlib.Path, text: str, delimiter: str) -> Iterator[str]:
    csv.field_size_limit(sys.maxsize)  # a document may be longer than the module's 131,072
    # newline="": quoted cells keep their line breaks as they are.
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
      if self.field not in (rows.fieldnames or ()):
        raise UserError(self._missing(f"{path}, line 1", rows.fieldnames or ()))
      for row in rows:
        value = row[self.field]
        if value is None:
          raise UserError(
            f"{path}, line {rows.line_num}: the row ends before column {self.field!r}; "
            "add the missing cells"
          )
        yield value
    except csv.Error as error:
      raise UserError(
        f"{path}, line {rows.reader.line_num}: {error}; quote cells that hold "
        f"{delimiter!r}, quotes or line breaks"
      ) from None

  def _field(self, row: dict, where: str) -> str:
    if self.field not in row:
      raise UserError(self._missing(where, row))
    value = row[self.field]
    if not isinstance(value, str):
      raise UserError(
        f"{where}: field {self.field!r} is a {type(value).__name__}; it must be a string"
      )
    return value

  def _missing(self, where: str, names) -> str:
    names = [str(name) for name in names]
    listed = ", ".join(names[:20]) or "none"
    return (
      f"{where}: no field {self.field!r}; there are: {listed}.{nearest(self.field, names)} "
      "Choose with field=..."
    )


def kind(path: pathlib.Path) -> str:
  """ ".txt", ".jsonl", ".csv" or ".tsv", whether compressed or not."""
  suffixes = [suffix.lower() for suffix in path.suffixes]
  ending = (
    suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])
  )
  if ending not in KINDS:
    raise UserError(
      f"{path} is of an unknown kind; name it {', '.join(KINDS)} or one of these with .gz"
    )
  return ending


def open_bytes(path: pathlib.Path) -> BinaryIO:
  """A file to read; a UserError where its permissions do not let us."""
  try:
    return path.open("rb")
  except OSError as error:
    raise UserError(
      f"cannot read {path} ({error.strerror}); check the file's permissions"
    ) from None


def read_text(path: pathlib.Path) -> str:
  """A whole file, decompressed and decoded; says where it is broken."""
  with open_bytes(path) as file:
    data = file.read()
  if path.suffix.lower() == ".gz":
    try:
      data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
      raise UserError(f"{path} is not whole gzip data ({error}); copy it again") from None
  if not data:
    raise UserError(f"{path} is empty; remove it or leave it out of the pattern")
  if (place := data.find(b"\0")) >= 0:
    hint = (
      "it may be UTF-16: convert it to UTF-8"
      if data[:2] in (b"\xff\xfe", b"\xfe\xff")
      else ("this is no text; remove the NUL bytes or the file")
    )
    raise UserError(f"{path}, line {_line(data, place)}: a NUL byte at byte {place}; {hint}")
  try:
    return data.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    place = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
    raise UserError(
      f"{path}, line {_line(data, place)}: byte {place} is not UTF-8; "
      "convert the file, for example with iconv -t utf-8"
    ) from None


def _line(data: bytes, place: int) -> int:
  return data.count(b"\n", 0, place) + 1
