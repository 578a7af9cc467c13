"""Runs the checks one after another, and prints what they say as they say it."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from research import load
from research.errors import UserError, nearest
from research.mesh import PRESETS, Sharding
from research.verify.checks import CHECKS, Check
from research.verify.rows import (
  BROKEN,
  DOES_NOT_APPLY,
  HOLDS,
  NOT_CHECKED,
  DoesNotApply,
  Row,
  said,
)
from research.verify.small import first_line
from research.verify.subject import Subject

FAILED = 1  # the exit code of a broken invariant
FORMAT = "{:<13} {:<25} {:>14} {:>8}  {}"


def verify(
  target: str,
  words: Sequence[str] = (),
  *,
  only: Sequence[str] = (),
  meshes: Sequence[str] = (),
  stream: TextIO | None = None,
) -> dict[str, list[Row]]:
  """Checks an experiment and prints the table.

  Args:
    target: `file.py[:function]`. Without a function and words, `smoke` where the file has one:
      it is the file's own idea of small, on data that is at hand.
    words: knobs and overrides.
    only: names of checks; all of them by default.
    meshes: presets or sizes for "devices"; every preset by default.
    stream: to print to.

  Returns:
    The rows by the name of their check.

  Raises:
    UserError: no such file, check or mesh, no data, or an experiment that cannot be built.
  """
  stream = stream or sys.stdout
  chosen = _chosen(only)
  for mesh in meshes:
    Sharding.parse(mesh)  # a mistake is told before anything is computed
  target = _small_function(target, words)
  began = time.monotonic()
  subject = dataclasses.replace(_subject(target, words), meshes=tuple(meshes or PRESETS))
  _read(subject)
  _print(stream, f"{subject.experiment.name}, made small: {subject.change}\n")
  _print(stream, FORMAT.format("check", "", "max difference", "budget", "").rstrip())
  rows: dict[str, list[Row]] = {}
  for check in chosen:
    with _progress(stream, check):
      rows[check.name] = []
      for row in _rows(check, subject, rows):
        rows[check.name].append(row)
        _print(stream, _line(check, row))
        if row.verdict == BROKEN:
          _print(stream, f"  what: {row.note}\n  look: {check.look}")
  _print(stream, f"\n{_summary(rows)}; {time.monotonic() - began:.0f} s")
  return rows


def exit_code(rows: dict[str, list[Row]]) -> int:
  """0 where nothing is broken."""
  return FAILED if broken(rows) else 0


def broken(rows: dict[str, list[Row]]) -> list[str]:
  """The names of the checks that failed."""
  return [name for name, found in rows.items() if any(row.verdict == BROKEN for row in found)]


def _chosen(only: Sequence[str]) -> list[Check]:
  names = [check.name for check in CHECKS]
  for name in only:
    if name not in names:
      raise UserError(
        f"there is no check {name!r}.{nearest(name, names)} There are {', '.join(names)}."
      )
  return [check for check in CHECKS if not only or check.name in only]


def _small_function(target: str, words: Sequence[str]) -> str:
  """The file's `smoke`, where nothing else was asked for."""
  path, _, function = target.partition(":")
  if function or words or "smoke" not in load.functions(Path(path)):
    return target
  return f"{path}:smoke"


def _subject(target: str, words: Sequence[str]) -> Subject:
  experiment = load.recipe(target, words).experiment()
  try:
    return Subject.of(target, words, experiment)
  except UserError:
    raise
  except Exception as error:  # whatever a user's model raises is the user's to mend
    raise UserError(f"{target} cannot be built: {_where(error)}.") from error


def _read(subject: Subject) -> None:
  """Raises a UserError where there are no data; of what else may fail the checks say more."""
  try:
    if subject.experiment.optimizer is None:
      subject.experiment.data.prepare()
    else:
      _ = subject.rows
  except UserError:
    raise
  except Exception:
    return


def _rows(check: Check, subject: Subject, done: dict[str, list[Row]]) -> Iterator[Row]:
  """The rows of a check; an error in it is a row, too."""
  unsettled = [
    name for name, found in done.items() if {row.verdict for row in found} & {BROKEN, NOT_CHECKED}
  ]
  missing = [name for name in check.needs if name in unsettled]
  if missing:
    yield Row("", verdict=NOT_CHECKED, note=f"mend {', '.join(missing)} first")
    return
  try:
    yield from check.run(subject)
  except (DoesNotApply, UserError) as error:
    yield Row("", verdict=DOES_NOT_APPLY, note=str(error))
  except Exception as error:  # the other checks may still have something to say
    yield Row("", verdict=BROKEN, note=f"raised {_where(error)}")


def _where(error: BaseException) -> str:
  """An error in one line, with the last place in it that is not in an installed package."""
  frames = traceback.extract_tb(error.__traceback__)
  frames = [frame for frame in frames if "site-packages" not in frame.filename]
  at = f" ({os.path.relpath(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
  return first_line(error) + at


def _line(check: Check, row: Row) -> str:
  difference = "" if row.difference is None else said(row.difference)
  verdict = row.verdict
  if row.verdict in (DOES_NOT_APPLY, NOT_CHECKED):
    verdict = f"{row.verdict}: {row.note}"
  return FORMAT.format(check.name, row.part, difference, row.budget, verdict)


def _summary(rows: dict[str, list[Row]]) -> str:
  failed = broken(rows)
  counts = [
    (sum(row.verdict == verdict for found in rows.values() for row in found), verdict)
    for verdict in (HOLDS, BROKEN, DOES_NOT_APPLY, NOT_CHECKED)
  ]
  told = ", ".join(f"{count} {verdict}" for count, verdict in counts if count)
  return f"{told}: broken is {', '.join(failed)}" if failed else told


def _print(stream: TextIO, text: str) -> None:
  print(text, file=stream, flush=True)


def _progress(stream: TextIO, check: Check):
  """A line that says what is being checked, in a terminal only."""
  from rich.console import Console

  return Console(file=stream).status(f"{check.name}: {check.claim}")
