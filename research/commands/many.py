"""What is done with several experiments or runs."""

from __future__ import annotations

import os
from pathlib import Path

from research.errors import UserError


def reproduce(options) -> int:
  from research.reproduce import command

  return command.run(options)


def report(options) -> int:
  from research import report
  from research.ledger.facts import folders

  first, *others = options.workdir
  alone = not others and not options.output
  if alone and (not first.is_dir() or first in folders(first)):
    print(report.write(first))
    return 0
  found = {root: list(folders(root)) for root in options.workdir}
  for root in found:
    if not found[root]:
      raise UserError(f"{root} holds no runs; give the --workdir of a run or of a sweep.")
  runs = list({run.resolve(): run for some in found.values() for run in some}.values())
  common = Path(os.path.commonpath([root.absolute() for root in options.workdir]))
  print(report.write_several(runs, options.output or common))
  return 0


def compare(options) -> int:
  if not options.step:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # shapes wake no accelerator that is here
  from research.compare import compare

  sides = options.first, options.second
  return compare(*sides, devices=options.devices, step=options.step, most=options.most)


def sweep(options) -> int:
  from research import forks

  if options.launcher == "local":
    forks.context()  # imports what runs need, while this process imports what it needs itself
  if options.trials or options.storage:
    return _search(options)
  from research.sweep import command

  return command.run(options)


def _search(options) -> int:
  from research import load
  from research.search import declared

  if not options.trials:
    raise UserError("--storage is of a search; say with --trials how many there are to be.")
  if options.only or options.dry_run or options.launcher != "local":
    raise UserError(
      "--trials goes without --only, --dry-run and --launcher: what a search runs it does not know "
      "beforehand. On several machines give the same command on each, with one --workdir."
    )
  recipe = load.recipe(options.file, options.words)
  wanted = declared(load.functions(recipe.path)[recipe.function])
  from research.sweep.search import search

  return search(
    wanted,
    recipe,
    options.workdir,
    trials=options.trials,
    workers=options.workers,
    storage=options.storage,
  )


def runs(options) -> int:
  from research.ledger import listing

  return listing.show(options.folder, options.where, options.sort, options.csv)
