"""A task for SkyPilot, which finds machines in clouds for those who have no cluster.

As a managed job (`sky jobs launch`) it is started again after preemptions without limit, and after
the exit codes named here; everything else ends it.
"""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import Any

from launch import documents, tools
from launch.spec import PORT, STOPPED, Spec
from research.errors import UserError

TAKES = ("topology", "image", "setup", "env", "zone", "spot")
# 128 + n of the signals that a lost peer, a full memory or a machine's end send.
KILLED = (134, 137, 139, 143)
CANCELLED = 137  # also what SkyPilot notes of all other nodes when one has failed


def render(spec: Spec) -> str:
  """A task for each run. As one file SkyPilot would run them one after the other: `submit` hands
  over each by itself."""
  return documents.dump(tasks(spec))


def tasks(spec: Spec) -> list[dict[str, Any]]:
  """The tasks as plain values."""
  if spec.topology.slices > 1:
    raise UserError("skypilot: it has no slices joined over the network; use jobset or tpu_vm.")
  return [_task(spec, name, command) for name, command in spec.jobs().items()]


def submit(spec: Spec) -> int:
  """Hands each task to `sky jobs launch`, and returns the first exit code that is not 0."""
  with tempfile.TemporaryDirectory() as folder:
    for task in tasks(spec):
      path = Path(folder) / f"{task['name']}.yaml"
      path.write_text(documents.dump([task]))
      code = tools.call("sky", "jobs", "launch", "--yes", "--detach-run", str(path))
      if code:
        return code
  return 0


def _task(spec: Spec, name: str, command: tuple[str, ...]) -> dict[str, Any]:
  tpu = spec.topology.machine.platform == "tpu"
  task: dict[str, Any] = {
    "name": name,
    "workdir": ".",
    "resources": _resources(spec),
    "num_nodes": 1 if tpu else _nodes(spec),  # a slice is one node of SkyPilot's
    "setup": spec.setup or f"pip install --editable {_package(spec)}",
    "run": _script(spec, command),
  }
  if spec.environment:
    task["envs"] = dict(spec.environment)
  return task


def _package(spec: Spec) -> str:
  """This folder, with JAX for the machines' devices."""
  platform = spec.topology.machine.platform
  return "." if platform == "cpu" else f"'.[{platform}]'"


def _again(spec: Spec) -> list[int]:
  """Exit codes after which there is another try. SkyPilot counts none of them: where the others of
  one that made a mistake end with a code of these, the mistake would be repeated for ever."""
  killed = [code for code in KILLED if code != CANCELLED or _nodes(spec) == 1]
  return [STOPPED, *killed]


def _resources(spec: Spec) -> dict[str, Any]:
  topology, machine = spec.topology, spec.topology.machine
  resources: dict[str, Any] = {
    "job_recovery": {
      "max_restarts_on_errors": 0,
      "recover_on_exit_codes": _again(spec),
    }
  }
  if machine.platform == "tpu":
    resources["accelerators"] = f"tpu-{topology.accelerator_type}"
    resources["accelerator_args"] = {"runtime_version": machine.runtime}
  if machine.platform == "gpu":
    resources["accelerators"] = f"{machine.sky}:{topology.chips_per_host}"
  cloud = "*" if machine.platform == "cpu" else "gcp" if machine.label else "aws"
  if spec.zone:
    resources["infra"] = f"{cloud}/*/{spec.zone}"
  elif machine.platform == "gpu" and cloud == "aws":
    resources["infra"] = cloud
  if spec.spot:
    resources["use_spot"] = True
  if spec.image:
    resources["image_id"] = f"docker:{spec.image}"
  return resources


def _script(spec: Spec, command: tuple[str, ...]) -> str:
  """SkyPilot says which node of how many this is; of TPU hosts JAX asks the machine itself."""
  words = shlex.join(command)
  if spec.topology.machine.platform == "tpu" or _nodes(spec) == 1:
    return f"exec {words}\n"
  return (
    f'export RESEARCH_COORDINATOR="$(echo "$SKYPILOT_NODE_IPS" | head -n 1):{PORT}"\n'
    'export RESEARCH_PROCESSES="$SKYPILOT_NUM_NODES"\n'
    'export RESEARCH_PROCESS="$SKYPILOT_NODE_RANK"\n'
    f"exec {words}\n"
  )


def _nodes(spec: Spec) -> int:
  if spec.topology.machine.platform == "cpu":
    return spec.topology.chips
  return spec.topology.hosts
