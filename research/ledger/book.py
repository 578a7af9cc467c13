"""The facts of all runs in a folder, in one SQLite file beside them.

The folders are the truth. What the file says of a run was read in its folder, and is read again
when that has changed, so the file may be deleted, damaged or out of date, and nothing is lost.

It is written by several processes, also of several machines. They take turns by SQLite's own locks,
with its rollback journal: a write-ahead log would need memory that all of them share, which no
network file system gives. A writer that is killed leaves a journal, by which the next one takes
back what was half done. Writes are few, two for a run, so that turns cost nothing.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from research import entry
from research.errors import RunError, UserError, nearest
from research.ledger import facts
from research.ledger.conditions import Condition
from research.ledger.facts import Facts, Value

FILE = "ledger.sqlite"
PATIENCE = 60.0  # seconds for which a process waits for its turn
VERSION = 1  # of the tables below; of another version they are made anew
TABLES = (
  "DROP TABLE IF EXISTS runs",
  "DROP TABLE IF EXISTS facts",
  "CREATE TABLE runs (folder TEXT PRIMARY KEY, stamp TEXT NOT NULL)",
  "CREATE TABLE facts (folder TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, "
  "text TEXT NOT NULL, number REAL, PRIMARY KEY (folder, kind, name)) WITHOUT ROWID",
  "CREATE INDEX by_name ON facts (name, number)",
  f"PRAGMA user_version = {VERSION}",
)
KINDS = ("run", "figures", "fields", "versions", "files")  # of facts: the attributes of `Facts`


class Ledger:
  """The ledger of a folder; a context manager. No error of the database ends a sweep: see `take`.

  Attributes:
    root: the folder.
  """

  def __init__(self, root: Path):
    """Opens its file, or makes it; where the folder cannot be written, the ledger is in memory."""
    self.root = Path(root)
    try:
      self._open(str(self.root / FILE))
    except sqlite3.OperationalError:  # read-only, or a file system that cannot lock
      self._open(":memory:")
    except sqlite3.DatabaseError:  # what is there is no ledger
      self._anew()

  def __enter__(self) -> Ledger:
    return self

  def __exit__(self, *_: object) -> None:
    self._file.close()

  def take(self, run: Path) -> None:
    """Writes down anew what a run's folder says. What cannot be read or written is told and can
    wait: the folder is read again by the next `refresh`."""
    try:
      with self._turn():
        self._write(run)
    except (sqlite3.Error, OSError, RunError) as error:
      print(f"warning: {self.root / FILE} does not have {run} yet: {error}", file=sys.stderr)

  def refresh(self) -> None:
    """Reads the folders that have changed since they were read, and forgets those that are gone."""
    try:
      self._refresh()
    except sqlite3.OperationalError:
      raise
    except sqlite3.DatabaseError:  # damaged where nobody has looked before
      self._file.close()
      self._anew()
      self._refresh()

  def find(self, conditions: Sequence[Condition] = ()) -> list[Facts]:
    """The runs that meet all conditions, in the order of their folders.

    Raises:
      UserError: no run has a fact of a condition's name.
    """
    for condition in conditions:
      self.check(condition.name)
    made = [condition.sql() for condition in conditions]
    where = " AND ".join(["1", *(test for test, _ in made)])
    values = [
      _utf8(value) if isinstance(value, str) else value for _, given in made for value in given
    ]
    rows = self._file.execute(
      f"SELECT folder FROM runs WHERE {where} ORDER BY folder",  # noqa: S608 (see `conditions`)
      values,
    )
    return [self._facts(folder) for (folder,) in rows.fetchall()]

  def names(self) -> list[str]:
    """Of all facts."""
    return [name for (name,) in self._file.execute("SELECT DISTINCT name FROM facts ORDER BY name")]

  def check(self, name: str) -> None:
    """UserError where no run has a fact of that name; the nearest is told."""
    known = "SELECT 1 FROM facts WHERE name = ? LIMIT 1"
    if not self._file.execute(known, [_utf8(name)]).fetchone():
      close = nearest(name, self.names())
      raise UserError(
        f"no run in {self.root} has a {name!r}.{close} `research runs {self.root} --csv` has all "
        "names in its first line."
      )

  def _refresh(self) -> None:
    known = dict(self._file.execute("SELECT folder, stamp FROM runs"))
    running = {
      folder
      for (folder,) in self._file.execute(
        "SELECT folder FROM facts WHERE name = 'state' AND text = ?", [entry.RUNNING]
      )  # they may have been killed, which changes no file
    }
    there = {self._name(run): run for run in facts.folders(self.root)}
    changed = [
      run for name, run in there.items() if name in running or known.get(name) != facts.stamp(run)
    ]
    with self._turn():
      for run in changed:
        self._write(run)
      for name in known.keys() - there.keys():
        self._forget(name)

  def _anew(self) -> None:
    """Sets the file aside, and begins one that is empty."""
    (self.root / FILE).replace(self.root / f"{FILE}.damaged")
    self._open(str(self.root / FILE))

  def _open(self, path: str) -> None:
    self._file = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    try:
      self._file.execute("PRAGMA journal_mode = DELETE")
      self._file.execute("PRAGMA synchronous = FULL")
      with self._turn():
        if self._file.execute("PRAGMA user_version").fetchone() != (VERSION,):
          for line in TABLES:
            self._file.execute(line)
    except sqlite3.Error:
      self._file.close()
      raise

  @contextlib.contextmanager
  def _turn(self) -> Iterator[None]:
    """What is written inside is written as one, while nobody else writes."""
    self._file.execute("BEGIN IMMEDIATE")
    try:
      yield
      self._file.execute("COMMIT")
    except BaseException:
      with contextlib.suppress(sqlite3.Error):
        self._file.execute("ROLLBACK")
      raise

  def _name(self, run: Path) -> str:
    return _utf8(run.absolute().relative_to(self.root.absolute()).as_posix())

  def _write(self, run: Path) -> None:
    name = self._name(run)
    stamp = facts.stamp(run)  # before it is read: what changes meanwhile is read again
    found = facts.read(run, name)
    self._forget(name)
    self._file.execute("INSERT INTO runs VALUES (?, ?)", [name, stamp])
    self._file.executemany("INSERT INTO facts VALUES (?, ?, ?, ?, ?)", _rows(found))

  def _forget(self, name: str) -> None:
    for table in ("runs", "facts"):
      self._file.execute(f"DELETE FROM {table} WHERE folder = ?", [name])  # noqa: S608 (ours)

  def _facts(self, folder: str) -> Facts:
    kinds: dict[str, dict[str, Value]] = {kind: {} for kind in KINDS}
    rows = self._file.execute(
      "SELECT kind, name, text, number FROM facts WHERE folder = ?", [folder]
    )
    for kind, name, text, number in rows:
      kinds[kind][name] = (
        text if number is None else int(text) if text.lstrip("-").isdecimal() else number
      )
    return Facts(folder, **kinds)


def _rows(found: Facts) -> Iterable[tuple[str, str, str, str, float | None]]:
  for kind in KINDS:
    for name, value in getattr(found, kind).items():
      plain = isinstance(value, int | float) and not isinstance(value, bool)
      number = float(value) if plain and math.isfinite(value) else None
      yield found.folder, kind, _utf8(name), _utf8(str(value)), number


def _utf8(text: str) -> str:
  """As SQLite takes it: what is not UTF-8 in a file's name is a lone surrogate in Python."""
  return text.encode("utf-8", "backslashreplace").decode()
