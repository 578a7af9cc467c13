"""`research reproduce`: runs what is missing, judges every claim, and writes it down."""

from __future__ import annotations

from research import load
from research.errors import UserError
from research.reproduce import pages, record, show
from research.reproduce.judged import reproduce

STOPPED = 42


def run(options) -> int:
  """Exit code 0 whatever the verdicts are, 42 when it was stopped before all had run.

  Raises:
    UserError: the verdicts cannot be written; they have been printed.
  """
  recipe = load.recipe(options.file, options.words)
  study = reproduce(recipe, options.workdir, workers=options.workers)
  if not study.complete:
    print(f"stopped before all had run; the same command goes on: {study.command}")
    return STOPPED
  show.show(study)
  try:
    verdicts, report = (to.write(study, options.workdir) for to in (record, pages))
  except OSError as error:
    raise UserError(
      f"{options.workdir} cannot be written: {error.strerror}; make room, and the same command "
      "writes the verdicts."
    ) from error
  print(f"verdicts: {verdicts}")
  print(f"report: {report}")
  return 0
