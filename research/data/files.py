"""A user's own files as documents: .txt, .jsonl, .csv and .tsv, each plain or .gz."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import pathlib
from collections.abc import Iterator

from research.data import reading, tables
from research.data.bad_records import BadRecords, check_share
from research.data.paths import reach
from research.errors import UserError

KINDS = (".txt", *tables.KINDS)


@dataclasses.dataclass(frozen=True)
class Files:
  """The documents of all files that match `pattern`, in the order of their paths.

  Attributes:
    pattern: a path, or a glob such as "books/**/*.txt"; "~" is the home folder.
    field: of .jsonl objects and .csv or .tsv columns: the one with the text.
    separator: splits each .txt file into documents, e.g. "<|endoftext|>", or "\\n" where every
      line is one; line breaks beside it go. Otherwise a .txt file is one document.
    skip: share of the records of .jsonl, .csv and .tsv files that may be bad and are left out.
  """

  pattern: str
  field: str = "text"
  separator: str | None = None
  skip: float = 0.0

  def __post_init__(self):
    check_share(self.skip)

  def paths(self) -> list[pathlib.Path]:
    """The files, sorted.

    Raises:
      UserError: nothing matches, or a file is of an unknown kind.
    """
    pattern = str(reach(self.pattern))
    # A path that exists is meant as it stands, even with brackets in its name.
    names = [pattern] if pathlib.Path(pattern).exists() else glob.glob(pattern, recursive=True)
    paths = sorted(path for path in map(pathlib.Path, names) if path.is_file())
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
    said = (self.field, self.separator, *([self.skip] if self.skip else []))
    total = hashlib.blake2b(repr(said).encode(), digest_size=16)
    for path in self.paths():
      total.update(kind(path).encode())
      with reading.opened(path) as file:
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
    records, bad = 0, BadRecords(self.skip)
    for path in self.paths():
      text, ending = reading.text(path), kind(path)
      if ending == ".txt":
        yield from self._parts(text)
        continue
      for row in tables.rows(path, ending, text, needs=(self.field,)):
        records += 1
        try:
          document = tables.text_of(row, self.field)
        except UserError as error:
          bad.leave_out(str(error))
        else:
          yield document
    bad.check(records)
    bad.tell(records)

  def _parts(self, text: str) -> Iterator[str]:
    if self.separator is None:
      yield text
    else:
      parts = text.replace("\r\n", "\n").split(self.separator)
      yield from (part.strip("\n") for part in parts)


def table_kind(path: pathlib.Path) -> str:
  """As `kind`; UserError for a .txt, which is no table."""
  if (ending := kind(path)) == ".txt":
    raise UserError(f"{path}: a .txt has no columns; name it {', '.join(tables.KINDS)}")
  return ending


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
