"""What checkpoints cost: training while one is written, fingerprints, and reading one back.

Rounds are interleaved: some steps with a save at their beginning, as many without; a checkpoint
read, then the same bytes by safetensors from the same disk, each from the disk itself, as after a
restart of the machine, and once more from the memory in which the system keeps what it has read.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research import memory
from research.bench.ours import trained
from research.bench.sizes import SIZES
from research.checkpoint import Checkpoints
from research.fingerprint import fingerprints
from research.retention import Keep
from research.stacking import unstack

EVERY = 100  # steps between saves, of which their share of the time is told


def run(options: argparse.Namespace) -> int:
  """Measures on GPT-2 of `options.size` with AdamW, in `options.rounds` rounds, and prints a table.

  Files are written into `options.folder`, by default where temporary files are, and removed.
  """
  memory.keep()
  size = SIZES[options.size]
  _, program, batch = trained(size, "float32")
  state = program.init()
  placed = program.place(batch)
  flat = unstack(state)
  total = sum(x.nbytes for x in flat.values())
  number = jax.jit(fingerprints)

  def step() -> None:
    nonlocal state
    state, measured = program.step(state, placed)
    jax.block_until_ready((state, measured))

  step()
  seconds: dict[str, list[float]] = {}

  def measure(what: str, function: Callable[[], Any]) -> Any:
    begun = time.perf_counter()
    result = function()
    seconds.setdefault(what, []).append(time.perf_counter() - begun)
    return result

  with tempfile.TemporaryDirectory(dir=options.folder, prefix="research-bench-") as folder:
    checkpoints = Checkpoints(Path(folder) / "checkpoints", Keep(1))
    checkpoints.save(0, state)  # compiles the fingerprints
    checkpoints.wait()
    for turn in range(1, options.rounds + 1):
      # As many steps as a save takes in the background, with it and without it.
      begun, steps = time.perf_counter(), 0
      measure("return", lambda turn=turn: checkpoints.save(turn, state))
      while checkpoints.saving is not None or not steps:
        step()
        steps += 1
        checkpoints.owed()
      seconds.setdefault("written", []).append(time.perf_counter() - begun)
      for _ in range(steps):
        measure("step", step)
      alone = sum(seconds["step"][-steps:])
      seconds.setdefault("extra", []).append(seconds["written"][-1] - alone)
      measure("fingerprints", lambda: jax.block_until_ready(number(unstack(state))))
    like = program.abstract
    peer = Path(folder) / "peer.safetensors"
    names = _write(peer, unstack(state))
    state = None
    for _ in range(options.rounds):
      for kind in ("cold", "warm"):
        if kind == "cold":
          _forget(Path(folder))
        measure(f"{kind} restore", lambda: jax.block_until_ready(checkpoints.restore(like)))
        if names:
          measure(f"{kind} safetensors", lambda: _read(peer))
    checkpoints.close()
  _print(size.name, total, {name: statistics.median(values) for name, values in seconds.items()})
  return 0


def _write(path: Path, arrays: dict[str, jax.Array]) -> bool:
  """The same bytes for the peer; False where it is not installed."""
  try:
    from safetensors.numpy import save_file
  except ModuleNotFoundError:
    return False
  save_file({name: np.asarray(x) for name, x in arrays.items()}, path)
  return True


def _forget(folder: Path) -> None:
  """Has the system forget what it keeps in memory of the files in a folder."""
  for path in folder.rglob("*"):
    if path.is_file():
      with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read(path: Path) -> Any:
  from safetensors.numpy import load_file

  return jax.block_until_ready(jax.device_put(load_file(path)))


def _print(size: str, total: int, median: dict[str, float]) -> None:
  import rich.console
  import rich.table

  megabytes = total / 1e6
  table = rich.table.Table(title=f"checkpoints of GPT-2 {size} with AdamW, {megabytes:,.0f} MB")
  table.add_column("median of the rounds")
  table.add_column("", justify="right")
  save = median["return"] + median["fingerprints"]
  lines = {
    "a step": f"{median['step']:.3f} s",
    "until `save` returns": f"{median['return']:.2f} s",
    "until all is on the disk, beside training": f"{median['written']:.2f} s",
    "training loses by a save": f"{median['extra']:.2f} s",
    f"of {EVERY} steps": f"{100 * median['extra'] / (EVERY * median['step']):.1f} %",
    "fingerprints": f"{median['fingerprints']:.3f} s",
    "of a save": f"{100 * median['fingerprints'] / max(median['written'], save):.1f} %",
  }
  for kind, source in (("cold", "the disk"), ("warm", "memory")):
    ours, theirs = median[f"{kind} restore"], median.get(f"{kind} safetensors")
    lines[f"restored from {source}, verified"] = f"{megabytes / ours:,.0f} MB/s"
    if theirs:
      lines[f"safetensors from {source}, not verified"] = f"{megabytes / theirs:,.0f} MB/s"
      lines["  ours to theirs" + " " * (kind == "warm")] = f"{theirs / ours:.2f}"
  for name, value in lines.items():
    table.add_row(name, value)
  rich.console.Console(width=100).print(table)
