"""Several runs as tables for others: a line a run in CSV, a line an arm in Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence

from research.log.progress import duration, short
from research.report import groups as of
from research.report import tables
from research.report.groups import Group
from research.report.run import Run


def as_csv(groups: Sequence[Group]) -> str:
  """A header, then every run: its name, arm, seed, the fields that differ, figures, costs."""
  runs = [run for group in groups for run in group.runs]
  paths = of.differing(runs)
  figures = list(dict.fromkeys(name for run in runs for name in of.measured(run)))
  costs = {"parameters": of.parameters, "tokens": of.tokens, "flops": of.flops}
  costs["seconds"] = of.seconds
  written = io.StringIO()
  lines = csv.writer(written, lineterminator="\n")
  lines.writerow(["run", "arm", "seed", "step", *paths, *figures, *costs])
  for group in groups:
    for run in group.runs:
      described, measured = run.experiment["description"], of.measured(run)
      lines.writerow(
        [
          run.name,
          group.name,
          _plain(of.seed(run)),
          run.step,
          *(described.get(path, "") for path in paths),
          *(_plain(measured.get(name, math.nan)) for name in figures),
          *(_plain(cost(run)) for cost in costs.values()),
        ]
      )
  return written.getvalue()


def rows(groups: Sequence[Group], figures: Sequence[str]) -> tuple[list[str], list[list[str]]]:
  """The header and a line for each arm: figures as means with their intervals' halves, costs."""
  paths = of.differing([run for group in groups for run in group.runs])
  header = ["", "seeds", *figures, "parameters", "tokens", "FLOPs", "time", *paths]
  values = [of.outcome(groups, name) for name in figures]
  lines = []
  for group in groups:
    described = group.runs[0].experiment["description"]
    line = [group.name, _seeds(group), *(figure(group, value) for value in values)]
    for cost in (of.parameters, of.tokens, of.flops):
      mean = group.mean(cost).estimate
      line.append(short(mean) if math.isfinite(mean) else tables.NONE)
    spent = group.mean(of.seconds).estimate
    line.append(duration(spent) if math.isfinite(spent) else tables.NONE)
    lines.append([*line, *(str(described.get(path, tables.NONE)).strip("'") for path in paths)])
  return header, lines


def figure(group: Group, value: Callable[[Run], float]) -> str:
  """The mean of a value over seeds, and half of its 95 % interval behind a ±."""
  found = group.mean(value)
  half = (found.high - found.low) / 2
  error = f" ± {half:.2g}" if math.isfinite(half) else ""
  number = found.estimate
  return (f"{number:.3g}" if abs(number) >= 1e6 else tables.value(number)) + error


def _seeds(group: Group) -> str:
  """How many there are, and how many of them have come to their end."""
  ended = sum(run.ended for run in group.runs)
  return f"{ended} of {len(group.runs)}" if ended < len(group.runs) else str(ended)


def as_markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
  """A table of GitHub's flavour."""
  shown = [header, ["---"] * len(header), *lines]
  return "".join(f"| {' | '.join(map(_escaped, line))} |\n" for line in shown)


def _escaped(cell: str) -> str:
  return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") or " "


def _plain(value: float) -> str:
  return f"{value:.10g}" if math.isfinite(value) else ""
