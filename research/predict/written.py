"""Results in a file, a line for each input: what is there stays, and what is missing is added."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from research import disk
from research.errors import RunError, UserError
from research.log import lines

PROGRESS = ".progress"  # behind the name of the output, while it is not whole


class Output:
  """A file of results that may have been begun before.

  Attributes:
    done: how many results it holds.
    bad: how many of these hold an error.
    long: how many are of inputs that were too long.
  """

  def __init__(self, path: Path, about: dict[str, Any], columns: Sequence[str] | None):
    """Opens it, or goes on with it.

    Args:
      path: .jsonl, or .csv where results have columns; or .txt where "text" is one of them.
      about: of what the results are; another begun file is not gone on with.
      columns: of a result as a row of a table, or None.

    Raises:
      UserError: the file is there and not a part of these results, or cannot be written.
    """
    self.path, self._about = path, about
    self._progress = path.with_name(path.name + PROGRESS)
    kinds = [".jsonl", *[".csv"] * bool(columns), *[".txt"] * ("text" in (columns or ()))]
    if path.suffix not in kinds:
      raise UserError(f"--output {path}: results are written to {' or '.join(kinds)}; name it so.")
    self._columns = [*columns, "error"] if path.suffix == ".csv" else None
    self.done, self.bad, self.long, size = self._begun()
    try:
      self._file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115
      self._file.truncate(size)
      self._file.seek(size)
      if self._columns and not size:
        self._file.write(self._row(dict.fromkeys(self._columns), header=True))
      self._keep()
    except OSError as error:
      raise UserError(f"--output {path} cannot be written ({error.strerror}).") from None

  def add(self, results: Iterable[dict[str, Any]], long: int = 0) -> None:
    """Writes results, and waits until they are on the disk.

    Args:
      results: with "error" where there is none.
      long: how many are of inputs that were too long.

    Raises:
      RunError: the disk does not take them.
    """
    with self._writing():
      for result in results:
        self._file.write(self._line(result))
        self.done += 1
        self.bad += "error" in result
      self.long += long
      self._keep()

  def finish(self) -> None:
    """Says that nothing is missing; RunError as of `add`."""
    with self._writing():
      self._file.close()
      self._progress.unlink(missing_ok=True)

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      raise RunError(
        f"--output {self.path} cannot be written ({error.strerror}); mend the disk, and the same "
        "command goes on with what is there."
      ) from error

  def _keep(self) -> None:
    self._file.flush()
    os.fsync(self._file.fileno())
    state = {"about": self._about, "done": self.done, "bad": self.bad, "long": self.long}
    state["bytes"] = self._file.tell()
    disk.replace(self._progress, json.dumps(state))

  def _begun(self) -> tuple[int, int, int, int]:
    """What is there already: results, those that are errors, of long inputs; and bytes."""
    if not self.path.exists():
      return 0, 0, 0, 0
    try:
      state = json.loads(self._progress.read_text(encoding="utf-8"))
      done, bad, long, size = (int(state[name]) for name in ("done", "bad", "long", "bytes"))
      about = state["about"]
    except FileNotFoundError:
      raise UserError(
        f"--output {self.path} is there already, and whole; remove it, or name another."
      ) from None
    except (OSError, ValueError, KeyError, TypeError):
      raise UserError(
        f"{self._progress} is damaged; remove it and {self.path}, and begin anew."
      ) from None
    if about != json.loads(json.dumps(self._about)) or self.path.stat().st_size < size:
      raise UserError(
        f"--output {self.path} was begun with another run or input; remove it, or name another."
      )
    return done, bad, long, size

  def _line(self, result: dict[str, Any]) -> bytes:
    """A result as a line of the file; an error is an empty line of a .txt."""
    if self._columns:
      return self._row(result)
    if self.path.suffix == ".txt":
      return (" ".join(result.get("text", "").split()) + "\n").encode("utf-8", "replace")
    return lines.encode(result).encode("utf-8", "backslashreplace")

  def _row(self, result: dict[str, Any], header: bool = False) -> bytes:
    text = io.StringIO()
    cells = self._columns if header else [result.get(column, "") for column in self._columns]
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "backslashreplace")
