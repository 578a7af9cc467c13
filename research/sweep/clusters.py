"""A sweep as jobs of a cluster: written out, or handed over, by the program `launch`.

How a job is described to SLURM or to Kubernetes is known there and only there; it makes an array of
as many tasks as there are runs. Each run enters how it stands in its own folder, as it does here.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from research import record
from research.errors import UserError
from research.experiment import Experiment
from research.sweep import row

HERE = "local"
TARGETS = {"slurm": "slurm", "gke": "jobset"}  # of `--launcher`, as `launch` calls them


def refuse(options) -> None:
  """UserError for options that mean something to a cluster alone."""
  for name in ("topology", "launch", "submit"):
    if getattr(options, name):
      raise UserError(f"--{name} is for --launcher slurm or gke; the launcher is {HERE}.")


def hand_over(options, experiments: Sequence[Experiment], *, alone: bool) -> int:
  """Runs `launch` on the experiments that are not done yet; returns its exit code.

  Args:
    options: of `research sweep`.
    experiments: those that are meant.
    alone: whether the file names no other.

  Raises:
    UserError: options that mean nothing to a cluster, or `launch` is not installed.
  """
  for name in ("workers", "dry_run"):
    if getattr(options, name):
      word = name.replace("_", "-")
      raise UserError(f"--{word} means nothing to a cluster; --launch=--parallel=N limits a sweep.")
  for experiment in experiments:
    record.check_name(experiment)
  todo = [each.name for each in row.rows(experiments, options.workdir) if not each.done_before()]
  if not todo:
    print(f"all {len(experiments)} runs are done: {options.workdir}")
    return 0
  program = shutil.which("launch", path=str(Path(sys.executable).parent)) or shutil.which("launch")
  if program is None:
    raise UserError("`launch` is not installed beside `research`; install both (`pip install .`).")
  told = words(options, todo, alone=alone)
  return subprocess.run([program, *told], check=False).returncode  # noqa: S603 (ours)


def words(options, todo: Sequence[str], *, alone: bool) -> list[str]:
  """What `launch` is told; the folder of a file's only experiment it takes as it is."""
  workdir = options.workdir / todo[0] if alone else options.workdir
  return [
    TARGETS[options.launcher],
    options.file,
    *options.words,
    *(f"--only={name}" for name in todo),
    f"--workdir={workdir}",
    *([f"--topology={options.topology}"] if options.topology else []),
    *options.launch,
    *(["--submit"] if options.submit else []),
  ]
