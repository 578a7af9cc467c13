"""`research sweep`: all experiments that a file names, here, on a cluster, or only on paper."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from research import entry, load
from research.errors import UserError, nearest
from research.experiment import Experiment


def run(options) -> int:
  """Does what the options of `research sweep` say; see `grammar`."""
  from research.sweep import clusters, dry_run, row, runner

  recipe = load.recipe(options.file, options.words)
  named = recipe.experiments()
  experiments = chosen(named, options.only)
  if options.launcher != clusters.HERE:
    return clusters.hand_over(options, experiments, alone=len(named) == 1)
  clusters.refuse(options)
  if options.dry_run:
    return dry_run.show(recipe, experiments, options.workdir, options.workers)
  swept = runner.sweep(recipe, experiments, options.workdir, workers=options.workers)
  for failed in swept.failed:
    print(f"{failed.name}: {failed.error}", file=sys.stderr)
  print(f"{swept.summary()}: {options.workdir}")
  if other := row.by_other_code(swept.rows, entry.code(recipe.path)):
    print(f"{other} of them were done by other code than there is now; see `code` in the ledger")
  return swept.exit_code


def chosen(experiments: Sequence[Experiment], only: str | None) -> list[Experiment]:
  """Those of a name, or whose names begin with it and a slash; all where none is given.

  Raises:
    UserError: there is none.
  """
  found = [
    experiment
    for experiment in experiments
    if only is None or f"{experiment.name}/".startswith(f"{only.rstrip('/')}/")
  ]
  if not found:
    names = [experiment.name for experiment in experiments]
    raise UserError(
      f"--only {only}: the file names no such experiment.{nearest(only, names)} "
      f"It names {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}."
    )
  return found
