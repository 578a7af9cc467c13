"""The machine, cut into equal shares: the cores and the GPUs that each of several workers has."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path

from research import cluster
from research.errors import UserError

GPU_MEMORY = 0.9  # of a GPU's, which those that share it take between them; JAX leaves the rest


@dataclasses.dataclass(frozen=True)
class Share:
  """What one worker has.

  Attributes:
    cores: numbers of them, as the system counts; none where processes cannot be bound to cores.
    environment: variables that show JAX its GPU alone.
  """

  cores: tuple[int, ...]
  environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def take(self) -> None:
    """Binds this process, and all threads and processes that it will start, to the share.

    XLA makes as many threads as it may use cores: bound before the first computation, workers do
    not wait for one another.
    """
    if self.cores:
      os.sched_setaffinity(0, self.cores)
    os.environ.update(self.environment)


def shares(
  workers: int | None, runs: int, environment: Mapping[str, str] = os.environ
) -> list[Share]:
  """One share for each worker.

  Args:
    workers: how many at once, at most as many as there are runs; None for one for each GPU, or for
      each core where there is none.
    runs: that there are to do.
    environment: of this process: which GPUs are meant.

  Raises:
    UserError: several workers on TPUs, which one process takes as a whole.
  """
  cores = _cores()
  gpus = _gpus(environment)
  on_tpu = not gpus and cluster.on_tpu_machine(environment)
  if on_tpu and (workers or 1) > 1:
    raise UserError(
      f"--workers {workers}: the TPUs of a machine belong to one process; give --workers 1, or run "
      "with JAX_PLATFORMS=cpu."
    )
  count = max(1, min(runs, workers or (1 if on_tpu else len(gpus) or len(cores) or 1)))
  return [
    Share(_part(cores, i, count), _gpu(gpus, i, count, environment) if gpus else {})
    for i in range(count)
  ]


def _cores() -> list[int]:
  if not hasattr(os, "sched_getaffinity"):  # macOS
    return []
  return sorted(os.sched_getaffinity(0))


def _part(cores: list[int], i: int, count: int) -> tuple[int, ...]:
  """The i-th of `count` parts; where there are more parts than cores, they share one."""
  if not cores:
    return ()
  if count > len(cores):
    return (cores[i % len(cores)],)
  return tuple(cores[i * len(cores) // count : (i + 1) * len(cores) // count])


def _gpus(environment: Mapping[str, str]) -> list[str]:
  if environment.get("JAX_PLATFORMS", "").partition(",")[0] == "cpu":  # the first is the default
    return []
  if (named := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
    names = itertools.takewhile(lambda name: name.strip() != "-1", named.split(","))
    return [name for name in names if name]  # CUDA, too, sees none from a -1 on
  found = (re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*"))
  return sorted((match[1] for match in found if match), key=int)


def _gpu(gpus: list[str], i: int, count: int, environment: Mapping[str, str]) -> dict[str, str]:
  """One GPU for each worker, several for each where there are more, one for several where fewer."""
  if count <= len(gpus):
    mine = gpus[i * len(gpus) // count : (i + 1) * len(gpus) // count]
    return {"CUDA_VISIBLE_DEVICES": ",".join(mine)}
  sharing = len(range(i % len(gpus), count, len(gpus)))
  fraction = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{GPU_MEMORY / sharing:.3f}"}
  if "XLA_PYTHON_CLIENT_MEM_FRACTION" in environment or sharing == 1:
    fraction = {}
  return {"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)], **fraction}
