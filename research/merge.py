"""`research merge`: a run with adapters becomes one of the plain model, its weights changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
from flax.traverse_util import unflatten_dict

from research import checkpoint, disk, record, secrets
from research.errors import UserError
from research.hf.folder import appearing
from research.overrides import override
from research.parameters import under

# What others read beside the weights.
KEPT = ("vocabulary", "source_vocabulary", "labels.json", "hugging_face")


def merge_run(workdir: Path, path: Path, step: int | None = None) -> None:
  """Writes a run whose checkpoint holds merged parameters alone, averaged ones where there are.

  Args:
    workdir: of the run with adapters.
    path: of the new run, to be made.
    step: which checkpoint; None for the newest.

  Raises:
    UserError: no such run or checkpoint, no adapters, or something at `path`.
    IntegrityError: the checkpoint is damaged.
  """
  experiment, about = record.open_run(workdir)
  if experiment.adapters is None:
    raise UserError(f"{workdir} has no adapters: its weights are plain already.")
  changes = {"adapters": None}
  if experiment.optimizer.groups.frozen:
    changes["optimizer.groups.frozen"] = ()
  plain = override(experiment, changes)
  with appearing(path.absolute()) as temporary:
    for name in KEPT:
      source = Path(workdir) / name
      if source.is_dir():
        shutil.copytree(source, temporary / name)
      elif source.is_file():
        shutil.copyfile(source, temporary / name)
    place = under(experiment)
    with checkpoint.of_run(workdir) as checkpoints:
      step = checkpoints.chosen(step)
      flat = checkpoints.arrays(step, place)
    params = jax.jit(experiment.adapters.merged)(unflatten_dict(flat, sep="/"))
    with checkpoint.Checkpoints(temporary / checkpoint.FOLDER) as checkpoints:
      checkpoints.save(step, {place: params})
    overrides = {**about["overrides"], **{name: repr(value) for name, value in changes.items()}}
    written = {**about, "overrides": overrides, "description": secrets.describe(plain.describe())}
    written["command"] = f"research merge {workdir} --workdir {path}"
    disk.replace(temporary / "experiment.json", json.dumps(written, indent=1))
