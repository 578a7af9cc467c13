"""One attempt at a run: checked, alone in its folder, entered there, and carried out."""

from __future__ import annotations

from pathlib import Path

from research import distributed, entry, lock, preflight, record
from research.experiment import Experiment
from research.fit import Finished, fit
from research.load import Recipe
from research.train import train


def attempt(recipe: Recipe, experiment: Experiment, workdir: Path) -> Finished:
  """Runs one experiment of a recipe in `workdir`, or goes on with it there.

  Raises:
    RunError: see `train`, `preflight.together`, `lock.alone_in` and `record.remember`.
  """
  record.check_name(experiment)
  with distributed.together("checking the experiment"):
    preflight.together(experiment)
  with lock.alone_in(workdir):
    with distributed.together("opening the run folder"):
      if distributed.first():
        record.remember(workdir, recipe, experiment)
    with entry.entered(workdir, experiment, recipe.path) as ended:
      finished = (fit if experiment.optimizer is None else train)(experiment, workdir)
      ended(finished.complete)
  return finished
