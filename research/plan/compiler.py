"""Starts the compiler of a machine that is not here, and keeps what it made."""

from __future__ import annotations

import dataclasses
import gzip
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import research
from research.data import cache
from research.errors import UserError
from research.plan import hlo
from research.plan.hlo import Module
from research.plan.network import Network
from research.plan.topology import GIB, Topology

LIBTPU = "libtpu==0.0.52"
CUDA = "jax-cuda12-pjrt=={0} jax-cuda12-plugin=={0}"


@dataclasses.dataclass(frozen=True)
class Request:
  """What to compile.

  Attributes:
    target, words: the experiment, as on the command line.
    number: which of those that the file yields.
    topology: for what.
    options: of the compiler, by name.
    timeout: seconds.
  """

  target: str
  words: tuple[str, ...]
  number: int
  topology: Topology
  options: Mapping[str, str] = dataclasses.field(default_factory=dict)
  timeout: float = 900.0


@dataclasses.dataclass(frozen=True)
class Compiled:
  """What the compiler said.

  Attributes:
    facts: of `result.json`: memory in bytes by kind, versions, seconds.
    module: the program, or None where it did not fit or could not be read back.
    network: its devices in the compiler's order.
    cached: whether it had been compiled before.
  """

  facts: dict[str, Any]
  module: Module | None
  network: Network
  cached: bool

  @property
  def needed(self) -> float:
    """Bytes of memory that a device needs, those that refused the program included."""
    if "memory" in self.facts:
      memory = self.facts["memory"]
      return memory["peak"] or memory["arguments"] + memory["temporary"] + memory["code"]
    # "Used 35.56G of 31.25G hbm", or "(38182998016)" of one buffer.
    size = r"(\d+(?:\.\d+)?)([KMGT]?)"
    sizes = re.findall(rf"(?:\(|Used ){size}(?:\)| of )", self.facts["refused"])
    units = {"": 1, "K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}
    return max((float(size) * units[unit] for size, unit in sizes), default=float("inf"))

  @property
  def fits(self) -> bool:
    return "memory" in self.facts and self.needed <= self.network.topology.chip.memory


def compile_for(request: Request) -> Compiled:
  """Compiles in another process, or opens what was compiled before from the same program.

  Raises:
    UserError: no compiler for that machine is installed, it took too long, or it failed.
  """
  with tempfile.TemporaryDirectory(prefix="research-plan-") as name:
    folder = Path(name)
    asked, answer = folder / "request.json", folder / "answer.json"
    asked.write_text(json.dumps(_as_json(request)))
    environment = _environment(request.topology)
    command = [sys.executable, "-m", "research.plan.worker", str(asked), str(answer)]
    try:
      done = subprocess.run(  # noqa: S603 (our own interpreter and module)
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=request.timeout,
      )
    except subprocess.TimeoutExpired as error:
      raise UserError(
        f"compiling for {request.topology} took longer than {request.timeout:.0f} s and was "
        "stopped; give it longer with --timeout, or drop a compiler --option."
      ) from error
    if not answer.is_file():
      raise UserError(_failure(request, done))
    said = json.loads(answer.read_text())
  return open_compiled(Path(said["folder"]), request.topology, cached=said["cached"])


def open_compiled(folder: Path, topology: Topology, *, cached: bool = True) -> Compiled:
  """What a worker left in its folder."""
  facts = json.loads((folder / "result.json").read_text())
  program = folder / "program.hlo.gz"
  module = hlo.parse(gzip.decompress(program.read_bytes()).decode()) if program.is_file() else None
  network = Network(
    topology,
    facts["mesh"],
    tuple(tuple(place) for place in facts["coordinates"]),
    tuple(facts["slices"]),
  )
  return Compiled(facts, module, network, cached)


def libtpu() -> Path | None:
  """The TPU compiler: $TPU_LIBRARY_PATH, an installed `libtpu`, or one in the cache folder."""
  if given := os.environ.get("TPU_LIBRARY_PATH"):
    return Path(given) if Path(given).is_file() else None
  found = importlib.util.find_spec("libtpu")
  folders = list(found.submodule_search_locations or []) if found else []
  for folder in [*folders, cache.root() / "libtpu" / "libtpu"]:
    if (Path(folder) / "libtpu.so").is_file():
      return Path(folder) / "libtpu.so"
  return None


def _environment(topology: Topology) -> dict[str, str]:
  # Settings of this process, such as fake devices or kept programs, are not the worker's.
  environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
  root = str(Path(research.__file__).parent.parent)
  paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
  environment |= {
    "PYTHONPATH": os.pathsep.join(paths),
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TPU_STDERR_LOG_LEVEL": "2",
  }
  if topology.chip.platform == "cuda":
    plugin = cache.root() / "cuda"
    if (plugin / "jax_plugins" / "xla_cuda12").is_dir():
      environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], str(plugin)])
    elif not _has_distribution("jax-cuda12-plugin"):
      raise UserError(
        f"no compiler for {topology}: install it with `pip install --no-deps --target {plugin} "
        f"{CUDA.format(jax.__version__)}` (500 MB); it needs no GPU."
      )
    return environment
  library = libtpu()
  if library is None:
    raise UserError(
      f"no compiler for {topology}: install it with `pip install --no-deps --target "
      f"{cache.root()}/libtpu {LIBTPU}` (500 MB); it needs no TPU."
    )
  return environment | {
    "TPU_LIBRARY_PATH": str(library),
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",  # any: without one it asks a metadata server
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # compiling needs no lock on devices
  }


def _has_distribution(name: str) -> bool:
  """Whether a package is installed; it is not imported, which would wake its driver."""
  try:
    return bool(importlib.metadata.version(name))
  except importlib.metadata.PackageNotFoundError:
    return False


def _as_json(request: Request) -> dict[str, Any]:
  topology = request.topology
  return {
    "target": request.target,
    "words": list(request.words),
    "number": request.number,
    "kind": topology.kind,
    "shape": topology.shape,
    "slices": topology.slices,
    "options": dict(request.options),
  }


def _failure(request: Request, done: subprocess.CompletedProcess) -> str:
  """One line of what a failed worker wrote: the error, not its traceback."""
  lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
  errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
  said = (errors or lines or [f"exit code {done.returncode}"])[-1]
  if said.startswith("research.errors.UserError: "):
    return said.removeprefix("research.errors.UserError: ")
  return f"the compiler for {request.topology} failed: {said[:600]}"
