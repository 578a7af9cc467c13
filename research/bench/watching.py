"""What the watch over a run's health costs, beside its steps.

Stretches of as many steps as lie between two looks are taken in turn: with the watch, which reads
every step's figures and looks once at how far weights move and which units are dead, and without
it, where a step's loss is read as the log reads it.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
import types
from pathlib import Path

import jax
from rich.console import Console
from rich.table import Table

from research import memory
from research.bench.ours import trained
from research.bench.sizes import SIZES
from research.health import Health, Told
from research.health.watch import OFTEN


def run(options: argparse.Namespace) -> int:
  """Measures on GPT-2 of `options.size` with AdamW, in `options.rounds` rounds; prints a table."""
  memory.keep()
  size = SIZES[options.size]
  made, program, batch = trained(size, "float32")
  placed, state = program.place(batch), program.init()
  seen = 0  # steps, by the watch

  def stretch(watch: Health | None) -> float:
    """Seconds of `OFTEN` steps."""
    nonlocal state, seen
    begun, before = time.perf_counter(), None
    for _ in range(OFTEN):
      state, measured = program.step(state, placed)
      if before is not None:
        float(before["loss"].total)
      before = measured
      if watch is not None:
        seen += 1
        watch.step(seen, measured, batch, lambda state=state: state.params)
    if watch is not None:
      watch.settle()
    jax.block_until_ready((state, measured))
    return time.perf_counter() - begun

  with tempfile.TemporaryDirectory(prefix="research-bench-") as folder:
    made = dataclasses.replace(
      made,
      data=types.SimpleNamespace(example=lambda: {name: x[:1] for name, x in batch.items()}),
      steps=OFTEN * (options.rounds + 2),  # the last has no look
    )
    watch = Health(made, program, Told(Path(folder), lambda said: None, 0), start=0)
    stretch(watch)  # compiles
    watched, alone = [], []
    for _ in range(options.rounds):
      alone.append(stretch(None))
      watched.append(stretch(watch))
  more = [100 * (a / b - 1) for a, b in zip(watched, alone, strict=True)]
  table = Table(title=f"health of GPT-2 {size.name}, {options.rounds} x {OFTEN} steps each")
  table.add_column("")
  table.add_column("", justify="right")
  table.add_row("a step, median", f"{1e3 * statistics.median(alone) / OFTEN:.2f} ms")
  table.add_row("and watched", f"{1e3 * statistics.median(watched) / OFTEN:.2f} ms")
  table.add_row("more, median of the rounds", f"{statistics.median(more):+.2f} %")
  table.add_row("  from, to", f"{min(more):+.2f} %, {max(more):+.2f} %")
  Console(width=100).print(table)
  return 0
