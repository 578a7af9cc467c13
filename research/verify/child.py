"""The process that `resume` kills: trains a small experiment in one folder after another.

  python -m research.verify.child FILE '["FOLDER", ...]' [name=value ...]

Its last line is JSON: for each folder the sha256 of every array in the newest checkpoint.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from research import checkpoint, load, stacking, train, update
from research.experiment import Experiment
from research.verify.subject import Subject, one_device


def main(target: str, folders: str, *words: str) -> None:
  subject = Subject.of(target, words, load.recipe(target, words).experiment())
  sharding = one_device(subject.experiment)
  experiment = dataclasses.replace(subject.experiment, sharding=sharding, evals={})
  digests = {}
  for folder in json.loads(folders):
    train.train(experiment, Path(folder))
    digests[folder] = of_newest(experiment, Path(folder))
  print(json.dumps(digests))


def of_newest(experiment: Experiment, workdir: Path) -> dict[str, str]:
  """sha256 by name of the arrays in the newest checkpoint of a run."""
  batch = update.abstract_batch(experiment)
  program = update.build(experiment, experiment.sharding.make_mesh(), batch)
  checkpoints = checkpoint.Checkpoints(workdir / "checkpoints")
  try:
    state = checkpoints.restore(program.abstract)
  finally:
    checkpoints.close()
  arrays = stacking.unstack(state)
  return {name: hashlib.sha256(np.asarray(x).tobytes()).hexdigest() for name, x in arrays.items()}


if __name__ == "__main__":
  main(*sys.argv[1:])
