"""One attempt at a run: checked, alone in its folder, entered there, and carried out."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from research import distributed, entry, lock, preflight, record
from research.experiment import Experiment
from research.fit import Finished, fit
from research.load import Recipe
from research.train import train_together


def attempt(recipe: Recipe, experiment: Experiment, workdir: Path) -> Finished:
  """Runs one experiment of a recipe in `workdir`, or goes on with it there.

  Raises:
    RunError: see `train`, `preflight.together`, `lock.alone_in` and `record.remember`.
  """
  finished = attempt_together(recipe, {workdir: experiment})[0]
  if finished.error is not None:
    raise finished.error
  return finished


def attempt_together(recipe: Recipe, folders: Mapping[Path, Experiment]) -> list[Finished]:
  """Runs the trials of one program, each in its folder; one that fails by itself has `error` set.

  Raises:
    RunError: as `attempt`.
  """
  experiments = list(folders.values())
  for experiment in experiments:
    record.check_name(experiment)
  with distributed.together("checking the experiment"):
    preflight.together(*experiments)
  with contextlib.ExitStack() as stack:
    for workdir in folders:
      stack.enter_context(lock.alone_in(workdir))
    with distributed.together("opening the run folder"):
      if distributed.first():
        for workdir, experiment in folders.items():
          record.remember(workdir, recipe, experiment)
    ends = [
      stack.enter_context(entry.entered(workdir, experiment, recipe.path))
      for workdir, experiment in folders.items()
    ]
    if experiments[0].optimizer is None:
      finished = [fit(experiment, workdir) for workdir, experiment in folders.items()]
    else:
      finished = train_together(folders)
    for ended, one in zip(ends, finished, strict=True):
      ended(one.complete, one.error)
  return finished
