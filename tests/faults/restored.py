"""Restores the newest checkpoint of a run onto the devices that are here, and prints its digest.

python -m tests.faults.restored WORKDIR
"""

from __future__ import annotations

import sys
from pathlib import Path

from . import runs


def main(workdir: Path) -> None:
  from research import checkpoint, cluster, distributed, record, update
  from research.stacking import unstack

  with distributed.joined(cluster.job()):
    experiment, _ = record.open_run(workdir)
    batch = update.abstract_batch(experiment)
    program = update.build(experiment, experiment.sharding.make_mesh(), batch)
    with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
      arrays = unstack(checkpoints.restore(program.abstract))
    if distributed.several():
      from jax.experimental import multihost_utils

      arrays = multihost_utils.process_allgather(arrays, tiled=True)
    print(f"restored {runs.digest(arrays)}", flush=True)


if __name__ == "__main__":
  main(Path(sys.argv[1]))
