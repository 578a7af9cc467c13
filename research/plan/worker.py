"""Compiles an experiment's step for machines that are not here; a process of its own.

  python -m research.plan.worker REQUEST.json ANSWER.json

The TPU compiler takes a lock for the life of its process, reads its settings once, and ends the
process on an internal error. So nothing else is done here, and `compiler.py` starts it.
"""

from __future__ import annotations

import gzip
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

from research import load, update
from research.data import cache
from research.experiment import Experiment
from research.nn import platform
from research.plan import targets
from research.plan.topology import Topology

FORMAT = 2  # raise it when what is written changes
POLITE = 10  # added to the niceness: a plan runs beside other work


def main(request_path: str, answer_path: str) -> None:
  """Writes where the compiled program lies, and whether it lay there already."""
  os.nice(POLITE)
  request = json.loads(Path(request_path).read_text())
  experiment = load.recipe(request["target"], request["words"]).experiments()[request["number"]]
  topology = Topology(request["kind"], tuple(request["shape"]), request["slices"])
  options = dict(request["options"])
  devices = list(devices_of(topology))
  mesh = experiment.sharding.make_mesh(devices)
  began = time.perf_counter()
  attention = "kernel"
  try:
    lowered = _lowered(experiment, mesh, topology, "gpu" if gpu(topology) else "tpu")
  except RuntimeError as error:
    if "cuDNN" not in str(error):
      raise
    lowered, attention = _lowered(experiment, mesh, topology, "plain"), "plain"
  lowering = time.perf_counter() - began
  if gpu(topology):
    options.setdefault("xla_gpu_autotune_level", 0)  # there is nothing to tune on
  version = devices[0].client.platform_version
  # With the lines of source, which the ledger names: a program that moved is compiled anew.
  text = lowered.as_text(debug_info=True)
  key = cache.key(FORMAT, text, str(topology), sorted(options.items()), version, jax.__version__)
  compiled_now = []

  def write(folder: Path) -> None:
    compiled_now.append(True)
    result = _compiled(lowered, options, folder)
    result |= {
      "topology": str(topology),
      "mesh": {axis: int(size) for axis, size in mesh.shape.items()},
      "coordinates": [_coordinates(device, topology) for device in mesh.devices.flat],
      "slices": [int(getattr(device, "slice_index", None) or 0) for device in mesh.devices.flat],
      "compiler": " ".join(version.split()),
      "jax": jax.__version__,
      "options": options,
      "attention": attention,
      "lowering_seconds": lowering,
    }
    (folder / "result.json").write_text(json.dumps(result, indent=1))

  folder = cache.folder("plans", key, write)
  answer = {"folder": str(folder), "cached": not compiled_now}
  Path(answer_path).write_text(json.dumps(answer))


def _lowered(experiment: Experiment, mesh: Any, topology: Topology, target: str) -> Any:
  """The step as StableHLO, written as for the platform `target`."""
  with platform.compiling_for(target):
    batch = update.abstract_batch(experiment)
    program = update.build(experiment, mesh, batch)
    traced = program.step.trace(program.abstract, batch)
    return traced.lower(lowering_platforms=(topology.chip.platform,))


def gpu(topology: Topology) -> bool:
  return topology.chip.platform == "cuda"


def devices_of(topology: Topology) -> Any:
  """The compiler's devices of a topology; none of them can run anything."""
  chip = topology.chip
  if gpu(topology):
    jax.devices()  # finds the plugin
    hosts, each = topology.shape
    described = topologies.get_topology_desc(
      platform="cuda", target_config=targets.description(chip), topology=f"1x{hosts}x{each}"
    )
    return described.devices
  slices = {"num_slices": topology.slices} if topology.slices > 1 else {}
  shape = "x".join(map(str, topology.shape))
  described = topologies.get_topology_desc(
    platform="tpu", topology_name=f"{chip.compiler_name}:{shape}", **dict(chip.options), **slices
  )
  return described.devices


def _compiled(lowered: Any, options: dict[str, Any], folder: Path) -> dict[str, Any]:
  began, cpu = time.perf_counter(), time.process_time()
  try:
    compiled = lowered.compile(compiler_options=options or None)
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return {"refused": str(error)}
  memory = compiled.memory_analysis()
  result = {
    "compile_seconds": time.perf_counter() - began,
    "compile_cpu_seconds": time.process_time() - cpu,
    "resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "memory": {
      "arguments": memory.argument_size_in_bytes,
      "outputs": memory.output_size_in_bytes,
      "aliased": memory.alias_size_in_bytes,
      "temporary": memory.temp_size_in_bytes,
      "code": memory.generated_code_size_in_bytes,
      "peak": getattr(memory, "peak_memory_in_bytes", 0),
    },
  }
  # Last: a compiler newer than JAX may write what JAX cannot read back.
  try:
    (folder / "program.hlo.gz").write_bytes(gzip.compress(compiled.as_text().encode(), 5))
  except jax.errors.JaxRuntimeError as error:
    result["unreadable"] = str(error).splitlines()[0]
  return result


def _coordinates(device: Any, topology: Topology) -> list[int]:
  if topology.chip.dimensions:
    return [int(place) for place in device.coords[: topology.chip.dimensions]]
  return list(divmod(device.id, topology.shape[1]))


if __name__ == "__main__":
  main(*sys.argv[1:])
