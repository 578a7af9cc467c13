"""Which job a process belongs to.

It is told by flags or environment variables (RESEARCH_COORDINATOR, RESEARCH_PROCESSES,
RESEARCH_PROCESS), or JAX finds out: from SLURM, Open MPI, Kubernetes or Cloud TPU. A process on its
own imports no JAX to learn that it is.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from research.errors import UserError

JOIN_SECONDS = 55  # until all must be there; RESEARCH_JOIN_SECONDS for machines that come slowly


@dataclasses.dataclass(frozen=True)
class Job:
  """The place of this process among others; nothing but None where JAX is to find out.

  Attributes:
    coordinator: "host:port", at which process 0 listens.
    processes: how many there are.
    process: which one this is, from 0.
    seconds: until all must be there.
  """

  coordinator: str | None = None
  processes: int | None = None
  process: int | None = None
  seconds: float = JOIN_SECONDS

  def __post_init__(self):
    if self.coordinator is None:
      return
    host, _, port = self.coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
      raise UserError(f"coordinator {self.coordinator!r} is not host:port, as 10.0.0.1:1234.")
    if not 0 <= self.process < self.processes:
      raise UserError(
        f"process {self.process} of {self.processes} processes does not exist; they count from 0."
      )


def job(
  coordinator: str | None = None,
  processes: int | None = None,
  process: int | None = None,
  environment: Mapping[str, str] = os.environ,
) -> Job | None:
  """The job that flags, the environment or the cluster name; None for a process on its own.

  Raises:
    UserError: a part of the three is missing or is no number.
  """
  given = {
    "--coordinator": coordinator or environment.get("RESEARCH_COORDINATOR"),
    "--processes": _number("RESEARCH_PROCESSES", processes, environment),
    "--process": _number("RESEARCH_PROCESS", process, environment),
  }
  seconds = _number("RESEARCH_JOIN_SECONDS", None, environment) or JOIN_SECONDS
  if given["--processes"] == 1:
    return None
  missing = [name for name, value in given.items() if value is None]
  if len(missing) == 3:
    return Job(seconds=seconds) if _in_cluster(environment) else None
  if missing:
    raise UserError(
      f"a job of several processes needs {' and '.join(missing)} as well, or the environment's "
      "RESEARCH_COORDINATOR, RESEARCH_PROCESSES and RESEARCH_PROCESS."
    )
  return Job(*given.values(), seconds=seconds)


def _number(name: str, given: int | None, environment: Mapping[str, str]) -> int | None:
  text = environment.get(name)
  if given is not None or text is None:
    return given
  if not text.isdecimal():
    raise UserError(f"{name}={text!r} is no number.")
  return int(text)


def _in_cluster(environment: Mapping[str, str]) -> bool:
  """Whether JAX can ask a cluster for the other processes; it looks at the same signs."""

  def has(*names: str) -> bool:
    return all(name in environment for name in names)

  def many(name: str) -> bool:
    return environment.get(name, "1") not in ("", "0", "1")

  if many("OMPI_COMM_WORLD_SIZE") and not has("OMPI_MCA_orte_hnp_uri"):
    raise UserError(
      "this Open MPI does not tell its processes where the first one is; set "
      "RESEARCH_COORDINATOR=host:port and give --processes $OMPI_COMM_WORLD_SIZE "
      "--process $OMPI_COMM_WORLD_RANK."
    )
  slurm = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
  workers = environment.get("TPU_PROCESS_ADDRESSES", environment.get("TPU_WORKER_HOSTNAMES", ""))
  return (
    many("OMPI_COMM_WORLD_SIZE")
    or (many("SLURM_NTASKS") and has(*slurm))
    or has("KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX")
    or "," in workers
    or has("MEGASCALE_COORDINATOR_ADDRESS")
    or (not has("TPU_SKIP_MDS_QUERY") and on_tpu_machine(environment))
  )


def on_tpu_machine(environment: Mapping[str, str]) -> bool:
  if "tpu" not in environment.get("JAX_PLATFORMS", "tpu"):
    return False
  chips = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev/vfio").glob("[0-9]*")]
  return bool(chips) and importlib.util.find_spec("libtpu") is not None
