"""The disk that runs in containers write to: what a container itself holds ends with it."""

from __future__ import annotations

import itertools
import re
from pathlib import PurePosixPath

from launch.spec import Spec
from research.errors import UserError

PATH = r"/[\w.\-]+(?:/[\w.\-]+)*"


def mounted(spec: Spec, form: str, source: str, processes: int) -> tuple[str, str] | None:
  """What is mounted, and where; None for a job that leaves nothing, such as the doctor's.

  Args:
    spec: with `--volume SOURCE:PATH`, and a `--workdir` below PATH in its commands.
    form: of the option, in words.
    source: pattern of what the engine can mount.
    processes: of one job, each in a container of its own.

  Raises:
    UserError: a run without a volume, a volume of another form, or a run beside its volume.
  """
  runs = [command for command in spec.runs.values() if command[:2] == ("research", "run")]
  if spec.volume is None:
    if not runs:
      return None
    why = "what a run writes into its container is gone when that ends, and each retry begins anew"
    if processes > 1:
      why = f"{processes} containers write into one --workdir, and each has a disk of its own"
    raise UserError(f"--volume {form} is needed: {why}.")
  found = re.fullmatch(f"({source}):({PATH})", spec.volume)
  if not found or ".." in PurePosixPath(found[2]).parts:
    raise UserError(f"--volume {spec.volume} is not {form}, with absolute paths.")
  for command in runs:
    workdir = dict(itertools.pairwise(command)).get("--workdir", "runs")
    path = PurePosixPath(workdir)
    if not path.is_relative_to(found[2]) or ".." in path.parts:
      raise UserError(
        f"--workdir {workdir} does not lie on the volume, which the containers see as {found[2]}; "
        f"give --workdir {found[2]}/{spec.name}."
      )
  return found[1], found[2]
