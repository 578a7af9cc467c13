"""Interleaved rounds: every worker is started and warmed, then each runs once a round in turn.

Machines are shared and noisy: what is trusted is the ratio of two workers inside one round, and
so the machine's limit is measured in every round, too.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.bench import comparisons, sizes
from research.bench.comparisons import Comparison, Entry
from research.bench.machine import memory_speed
from research.errors import UserError
from research.log.progress import short

SETTLE = 0.5  # seconds; the threads of the worker before go on spinning for some 200 ms
WITHOUT_PEERS = {"save": "saving", "sweep": "sweeping", "watch": "watching"}  # kind -> module
# Of what is compared before anything is timed, relative to the largest.
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}


def run(options: argparse.Namespace) -> int:
  """Does what the options of `research bench` say; see `cli`.

  Raises:
    UserError: there is no such size, or no folder to write in, the peers' interpreter lacks what
      they need, or a peer computes something else.
  """
  if options.size not in sizes.KINDS[options.kind]:
    known = ", ".join(sizes.KINDS[options.kind])
    raise UserError(f"--size {options.size} is none of {options.kind}'s, which are {known}.")
  folder = options.folder
  if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK)):
    raise UserError(f"--folder {folder} is no folder that can be written; make it, or drop it.")
  if options.kind in WITHOUT_PEERS:
    module = importlib.import_module(f"research.bench.{WITHOUT_PEERS[options.kind]}")
    return module.run(options)
  peers = _peers(options)
  if made := comparisons.MADE_UP.get(options.kind):
    for comparison in made(options.size, peers):
      _measure(comparison, options.rounds)
    return 0
  from research.bench import weights

  with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary) / "weights"
    weights.write(options.kind, sizes.KINDS[options.kind][options.size], folder)
    for comparison in comparisons.READ[options.kind](options.size, peers, folder):
      _measure(comparison, options.rounds)
  return 0


def _peers(options: argparse.Namespace) -> str | None:
  """The interpreter of the peers, or None where they are not asked for."""
  if not options.peers and options.peer_python is None:
    return None
  python = shutil.which(str(options.peer_python or sys.executable))
  needed = ", ".join(comparisons.NEEDED.get(options.kind, comparisons.PEERS))
  check = [python, "-c", f"import {needed}"]
  if python is None or subprocess.run(check, capture_output=True, check=False).returncode:  # noqa: S603 (the user's)
    raise UserError(
      f"{options.peer_python or sys.executable} cannot import {needed}; "
      "give the interpreter of an environment that has them: --peer-python PATH."
    )
  return python


def _measure(comparison: Comparison, rounds: int) -> None:
  import rich.console
  import rich.progress

  what, entries = comparison.what, comparison.entries
  console = rich.console.Console(width=None if sys.stdout.isatty() else 120)
  columns = ("{task.description}", rich.progress.BarColumn(), rich.progress.TimeRemainingColumn())
  seconds: list[list[float]] = [[] for _ in entries]
  held, available = [0] * len(entries), []
  with (
    contextlib.ExitStack() as stack,
    rich.progress.Progress(
      *columns, console=rich.console.Console(stderr=True), transient=True
    ) as bar,
  ):
    task = bar.add_task(what, total=len(entries) * (rounds + 1))
    workers, facts = [], []
    for entry in entries:
      workers.append(stack.enter_context(_worker(entry)))
      facts.append(workers[-1].ask(None))
      bar.advance(task)
    _check_alike(comparison, facts)
    for _ in range(rounds):
      for i, worker in enumerate(workers):
        time.sleep(SETTLE)
        answer = worker.ask("go")
        seconds[i].append(answer["seconds"])
        held[i] = answer["peak_memory_bytes"]
        bar.advance(task)
      time.sleep(SETTLE)
      bound, needed, rate = _limit(facts[0], comparison.dtype)
      available.append(rate)
  console.print(_table(comparison, facts, seconds, held, (bound, needed, available)))


def _check_alike(comparison: Comparison, facts: Sequence[dict[str, Any]]) -> None:
  """Raises a UserError where a worker computes something else than ours."""
  wanted = facts[0].get("outcome") or {}
  for entry, fact in zip(comparison.entries[1:], facts[1:]):
    found = fact["outcome"] or {}
    if "close" in wanted:
      a, b = (np.asarray(outcome["close"]) for outcome in (wanted, found))
      apart = np.abs(a - b).max() / np.abs(a).max()
      if not apart <= TOLERANCE[comparison.dtype]:
        raise UserError(f"{comparison.what}: {entry.name!r} has other results, {apart:.1e} apart.")
    # Rounded to bfloat16, two words may be equally likely.
    if comparison.dtype == "float32" and wanted.get("same") != found.get("same"):
      raise UserError(f"{comparison.what}: {entry.name!r} has written other words.")


class _Worker:
  def __init__(self, entry: Entry, errors: Any):
    self.name, self.errors = entry.name, errors
    self.process = subprocess.Popen(  # noqa: S603 (our workers)
      entry.command,
      env={**os.environ, **entry.environment},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=errors,
      text=True,
    )

  def ask(self, word: str | None) -> dict[str, Any]:
    if word:
      with contextlib.suppress(BrokenPipeError):  # of one that has ended there is no answer
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
    line = self.process.stdout.readline()
    if not line:
      self.errors.seek(0)
      last = (self.errors.read().strip().splitlines() or ["without a word"])[-1]
      raise UserError(f"the worker {self.name!r} ended: {last}")
    return json.loads(line)


@contextlib.contextmanager
def _worker(entry: Entry) -> Iterator[_Worker]:
  with tempfile.TemporaryFile("w+") as errors:
    worker = _Worker(entry, errors)
    try:
      yield worker
    finally:
      with contextlib.suppress(BrokenPipeError):
        worker.process.stdin.close()
      worker.process.terminate()
      worker.process.wait()


def _limit(facts: dict[str, Any], dtype: str) -> tuple[str, float, float]:
  """What bounds the work: its name, how much of it one run needs, and how much a second has now.

  Of an accelerator's memory the speed is not known, and NaN.
  """
  if "flops" in facts:
    from research import flops

    return "of product peak", facts["flops"], flops.peak(dtype)
  speed = memory_speed() if facts["backend"] == "cpu" else math.nan
  return "of memory speed", facts["bytes"], speed


def _table(comparison, facts, seconds, held, limit):
  import rich.table

  bound, needed, available = limit
  counted = f"{comparison.unit}/s"
  columns = (counted, "min to max", "research is", bound, "memory", "first run")
  unit = "GB" if "bytes" in facts[0] else "GFLOP"
  most = statistics.median(available)
  known = math.isfinite(most)
  most_now = f" ({bound.removeprefix('of ')} {most / 1e9:,.0f} {unit}/s)" if known else ""
  table = rich.table.Table("", *columns, title=comparison.what + most_now)
  count = facts[0]["count"]
  for entry, fact, times, most in zip(comparison.entries, facts, seconds, held):
    rates = [count / t for t in times]
    shares = [needed / t / rate for t, rate in zip(times, available)]
    ratios = [t / ours for t, ours in zip(times, seconds[0])]
    table.add_row(
      entry.name + (" (native)" if fact.get("native") else ""),
      f"{statistics.median(rates):,.0f}",
      f"{min(rates):,.0f} to {max(rates):,.0f}",
      "" if entry is comparison.entries[0] else f"{statistics.median(ratios):.2f} x",
      f"{statistics.median(shares):.0%}" if known else "",
      f"{short(most)}B",
      f"{fact['first_seconds']:.1f} s",
    )
  return table
