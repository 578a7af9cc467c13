"""`research runs`: the runs of a folder as a table to look at, or as CSV to go on with."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from research.errors import UserError
from research.experiment import BOOKKEEPING
from research.ledger import conditions
from research.ledger.book import Ledger
from research.ledger.facts import Facts, Value
from research.log.progress import duration

MOST = 6  # fields that a table tells of those in which runs differ; CSV has all
QUIET = ("name", "seed", *BOOKKEEPING)  # fields that say nothing of the difference between two arms


def show(root: Path, where: Sequence[str], sort: str | None, as_csv: bool) -> int:
  """Prints the runs in `root` that meet all conditions `where`, by the fact `sort` ascending.

  Raises:
    UserError: no such folder, no run in it, a condition that is none, or a name that no run has.
  """
  if not root.is_dir():
    raise UserError(f"{root} is no folder; give one that holds runs, as a sweep's --workdir.")
  asked = [conditions.parse(text) for text in where]
  with Ledger(root) as ledger:
    ledger.refresh()
    every = ledger.find()
    if not every:
      raise UserError(f"{root} holds no run; give the folder of a run, or one above several.")
    runs = ledger.find(asked)
    if sort is not None:
      ledger.check(sort)
      runs.sort(key=lambda run: _order(run.get(sort)))
  if as_csv:
    _csv(runs)
    return 0
  _table(runs, [*(c.name for c in asked), *([sort] if sort else [])])
  print(f"{len(runs)} of {len(every)} runs in {root}")
  for run in runs:
    if "error" in run.run:
      print(f"{run.folder}: {run.run['error']}")
  return 0


def different(runs: Sequence[Facts]) -> list[str]:
  """The fields of their experiments in which the runs differ, but for name and seed."""
  names = dict.fromkeys(name for run in runs for name in run.fields)
  return [
    name
    for name in names
    if name.split(".")[0] not in QUIET and len({run.fields.get(name) for run in runs}) > 1
  ]


def _table(runs: Sequence[Facts], asked: Iterable[str]) -> None:
  from rich.console import Console
  from rich.table import Table

  losses = dict.fromkeys(name for run in runs for name in run.figures if name.endswith(".loss"))
  shown = [name for name in losses if ".standard_error" not in name and name != "train.loss"]
  columns = dict.fromkeys([*asked, *different(runs)[:MOST], *shown])
  table = Table(box=None, pad_edge=False)
  for head in ("run", "state", "step", *columns, "time"):
    table.add_column(head, justify="left" if head in ("run", "state") else "right", overflow="fold")
  for run in runs:
    seconds = run.run.get("seconds")
    table.add_row(
      run.folder,
      str(run.run.get("state", "")),
      f"{run.run.get('step', '')}/{run.fields.get('steps', '')}",
      *(_short(run.get(name)) for name in columns),
      duration(seconds) if isinstance(seconds, int | float) else "",
    )
  wide = None if sys.stdout.isatty() else 10_000  # a file has no width
  Console(width=wide, markup=False, highlight=False).print(table)


def _csv(runs: Sequence[Facts]) -> None:
  kinds = ("run", "figures", "fields", "versions")
  names = dict.fromkeys(
    name for kind in kinds for run in runs for name in getattr(run, kind) if name != "name"
  )
  writer = csv.writer(sys.stdout, lineterminator="\n")
  writer.writerow(["folder", "name", *names])
  for run in runs:
    writer.writerow([run.folder, run.get("name"), *(run.get(name) for name in names)])


def _short(value: Value | None) -> str:
  if value is None:
    return ""
  return f"{value:.5g}" if isinstance(value, float) else str(value)


def _order(value: Value | None) -> tuple[int, float, str]:
  """Numbers ascending, then texts, then what is missing."""
  if isinstance(value, int | float):
    return 0, value, ""
  return (2, 0.0, "") if value is None else (1, 0.0, value)
