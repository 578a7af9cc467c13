"""What a run's folder says, as claims want it."""

from __future__ import annotations

from research import entry
from research.arms import arm_of
from research.claims import Outcome, Results
from research.report import groups
from research.report.run import Run, holds_a_run, read
from research.sweep import Row

_TOLD = 120  # letters of an error in a reason; the run's folder has all of it


def results(rows: list[Row]) -> tuple[Results, dict[str, dict[int, Run]]]:
  """The outcomes of the runs of a sweep, and the runs, both by arm and seed."""
  outcomes: dict[str, dict[int, Outcome]] = {}
  runs: dict[str, dict[int, Run]] = {}
  for row in rows:
    arm, seed = arm_of(row.name)
    run = read(row.workdir) if holds_a_run(row.workdir) else None
    outcomes.setdefault(arm, {})[seed] = _outcome(row, run)
    if run is not None:
      runs.setdefault(arm, {})[seed] = run
  return Results(outcomes), runs


def _outcome(row: Row, run: Run | None) -> Outcome:
  if row.state == entry.FAILED:
    error = row.error.replace(f"{row.workdir}", "its folder").rstrip(".")
    short = error if len(error) <= _TOLD else f"{error[:_TOLD]} ..."
    return Outcome(failure=f"failed ({short})")
  if row.state != entry.DONE or run is None:
    return Outcome(failure="was not run to its end")
  return Outcome(
    values=groups.measured(run),
    parameters=groups.parameters(run),
    tokens=groups.tokens(run),
    flops=groups.flops(run),
    seconds=groups.seconds(run),
  )
