"""`research reproduce`: runs what is missing, judges every claim, and writes it down."""

from __future__ import annotations

from research import load
from research.reproduce import pages, record, show
from research.reproduce.judged import reproduce

STOPPED = 42


def run(options) -> int:
  """Exit code 0 whatever the verdicts are, 42 when it was stopped before all had run."""
  recipe = load.recipe(options.file, options.words)
  study = reproduce(recipe, options.workdir, workers=options.workers)
  if not study.complete:
    print(f"stopped before all had run; the same command goes on: {study.command}")
    return STOPPED
  show.show(study)
  print(f"verdicts: {record.write(study, options.workdir)}")
  print(f"report: {pages.write(study, options.workdir)}")
  return 0
