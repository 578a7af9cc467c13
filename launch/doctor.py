"""Are all processes and devices there, and do they reach one another? Seconds, before any run.

Run it in the place of a run: `launch TARGET doctor` submits a job that does nothing else.
"""

from __future__ import annotations

import dataclasses
import socket
import time
from collections import Counter

from launch.machines import Topology
from research import cluster, distributed
from research.errors import RunError

MEGABYTES = 64  # that each device sends in the trial of the interconnect
INSTALL = {
  "tpu": "install JAX for TPUs (`pip install 'research[tpu]'`) on a machine that has them",
  "gpu": "install JAX for GPUs (`pip install 'research[gpu]'`); `nvidia-smi` shows the driver",
  "cpu": "unset JAX_PLATFORMS, or give the --topology that is meant",
}


@dataclasses.dataclass(frozen=True)
class Finding:
  """One line of the examination.

  Attributes:
    what: was looked at.
    expected: as text; empty where nothing is.
    seen: as text.
    fix: what to do where they differ.
  """

  what: str
  expected: str
  seen: str
  fix: str = ""

  @property
  def sound(self) -> bool:
    return self.expected in ("", self.seen)


def examine(topology: Topology | None, seconds: float | None) -> int:
  """Joins the other processes, prints expected against seen, and returns 0 when all is sound.

  Args:
    topology: that there should be; None where only the processes are known.
    seconds: to wait for the others; None for as long as a run would.

  Raises:
    RunError: the others cannot be joined, or no device can be had.
  """
  start = time.perf_counter()
  job = cluster.job()
  print(f"{socket.gethostname()}: {_membership(job)}", flush=True)
  if job and seconds:
    job = dataclasses.replace(job, seconds=seconds)
  with distributed.joined(job):
    findings = _findings(topology, job)
    if distributed.first():
      print(_table(findings), flush=True)
      print(f"examined in {time.perf_counter() - start:.1f} s", flush=True)
  return 0 if all(finding.sound for finding in findings) else 1


def _membership(job: cluster.Job | None) -> str:
  if job is None:
    return "a process on its own"
  if job.coordinator is None:
    return "a process of a cluster; JAX finds the others"
  return f"process {job.process} of {job.processes}, coordinator {job.coordinator}"


def _findings(topology: Topology | None, job: cluster.Job | None) -> list[Finding]:
  import jax

  try:
    platform, local = jax.default_backend(), jax.local_device_count()
  except RuntimeError as error:
    raise RunError(f"JAX finds no device: {str(error).splitlines()[0]}") from error
  hosts = _gathered(socket.gethostname().encode()[:64].ljust(64))
  each = [int(text) for text in _gathered(b"%8d" % local)]
  findings = [
    Finding(
      "processes",
      str(job.processes) if job and job.processes else "",
      str(jax.process_count()),
      "each process needs a RESEARCH_PROCESS of its own below RESEARCH_PROCESSES",
    )
  ]
  if topology is None:
    findings.append(Finding("hosts", "", str(len(set(hosts)))))
    findings.append(Finding("platform", "", platform))
  else:
    findings += [
      Finding(
        "hosts",
        str(topology.slices * topology.hosts),
        str(len(set(hosts))),
        f"{topology} is {topology.slices * topology.hosts} machines: ask for as many, and start "
        "the processes on all of them",
      ),
      Finding(
        "platform",
        topology.machine.platform,
        platform,
        INSTALL[topology.machine.platform],
      ),
    ]
  findings.append(_devices_of_processes(hosts, each))
  findings.append(
    Finding(
      "devices",
      "" if topology is None else str(topology.chips),
      str(jax.device_count()),
      "see the line above for who lacks some; TPU_VISIBLE_CHIPS, CUDA_VISIBLE_DEVICES and another "
      "program on the machine hide devices",
    )
  )
  if topology is not None and topology.machine.platform == "tpu":
    slices = {getattr(device, "slice_index", 0) for device in jax.devices()}
    fix = "MEGASCALE_NUM_SLICES joins slices: JobSet and queued resources with --node-count set it"
    findings.append(Finding("slices", str(topology.slices), str(len(slices)), fix))
  return findings + _interconnect(topology)


def _devices_of_processes(hosts: list[str], each: list[int]) -> Finding:
  """All should have as many as most have; names those that do not."""
  usual = Counter(each).most_common(1)[0][0]
  odd = [f"process {i} on {hosts[i]} has {n}" for i, n in enumerate(each) if n != usual]
  return Finding(
    "devices of a process",
    str(usual),
    ", ".join(odd) or str(usual),
    "restart that machine or take another; `nvidia-smi` or `tpu-info` says what it sees",
  )


def _interconnect(topology: Topology | None) -> list[Finding]:
  """The sum of all devices' ones, then the time of an all-reduce."""
  import jax
  import jax.numpy as jnp
  import numpy as np
  from jax.sharding import Mesh, NamedSharding, PartitionSpec

  n = jax.device_count()
  mesh = Mesh(np.asarray(jax.devices()), ("device",))
  rows = NamedSharding(mesh, PartitionSpec("device"))
  # A CPU's collectives are there to be right, not fast.
  size = (4 if jax.default_backend() == "cpu" else MEGABYTES) * 2**18
  ones = jax.jit(lambda: jnp.ones((n, size), jnp.float32), out_shardings=rows)()
  reduce = jax.jit(lambda x: x.sum(axis=0), out_shardings=NamedSharding(mesh, PartitionSpec()))
  total = float(reduce(ones).addressable_data(0)[0])
  times = []
  for _ in range(3):
    begun = time.perf_counter()
    reduce(ones).block_until_ready()
    times.append(time.perf_counter() - begun)
  findings = [
    Finding(
      "sum over devices", str(n), f"{total:g}", "the network drops or mixes data: see NCCL_DEBUG"
    )
  ]
  if n > 1:
    # Each device sends and receives 2 (n - 1) / n of its data in a ring.
    rate = 2 * (n - 1) / n * size * 4 / min(times) / 1e9
    fabric = f" ({topology.machine.fabric})" if topology else ""
    seen = f"{rate:.2f} GB/s a device, {size >> 18} MiB in {1e3 * min(times):.1f} ms{fabric}"
    findings.append(Finding("all-reduce", "", seen))
  return findings


def _gathered(text: bytes) -> list[str]:
  """The texts of all processes, by process."""
  import numpy as np
  from jax.experimental import multihost_utils

  if not distributed.several():
    return [text.decode().strip()]
  rows = multihost_utils.process_allgather(np.frombuffer(text, np.uint8))
  return [bytes(row).decode().strip() for row in rows]


def _table(findings: list[Finding]) -> str:
  rows = [("", "expected", "seen")] + [(f.what, f.expected or "-", f.seen) for f in findings]
  width = [max(len(row[i]) for row in rows) for i in (0, 1)]
  lines = [f"{a:<{width[0]}}  {b:<{width[1]}}  {c}" for a, b, c in rows]
  lines += [f"WRONG: {f.what}: {f.fix}." for f in findings if not f.sound]
  lines += ["all is sound"] * all(f.sound for f in findings)
  return "\n".join(lines)
