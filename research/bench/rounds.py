"""Interleaved rounds: every worker is started and warmed, then each runs once a round in turn.

Machines are shared and noisy: what is trusted is the ratio of two workers inside one round.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
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

from research import memory
from research.bench.machine import memory_speed
from research.errors import UserError
from research.log.progress import short

HERE = Path(__file__).parent
MEMORY = {memory.ENVIRONMENT: memory.tunables()}  # what our own commands start with
DTYPES = ("float32", "bfloat16")
TEXTS = (1, 8)  # decoded side by side
SETTLE = 0.5  # seconds; the threads of the worker before go on spinning for some 200 ms


@dataclasses.dataclass(frozen=True)
class Entry:
  """One line of the table: a name, the worker's command, and what its environment has more."""

  name: str
  command: tuple[str, ...]
  environment: dict[str, str] = dataclasses.field(default_factory=dict)


def run(options: argparse.Namespace) -> int:
  """Does what the options of `research bench` say; see `cli`.

  Raises:
    UserError: the peers' interpreter has no torch or transformers.
  """
  if options.kind == "save":
    from research.bench import saving

    return saving.run(options)
  peers = _peers(options)
  for dtype in DTYPES:
    if options.kind == "train":
      what = f"training GPT-2 {options.size}, {dtype}"
      _measure(what, training(options.size, dtype, peers), dtype, options.rounds)
      continue
    for texts in TEXTS:
      what = f"decoding GPT-2 {options.size}, {dtype}, {texts} at once"
      _measure(what, decoding(options.size, dtype, texts, peers), dtype, options.rounds)
  return 0


def training(size: str, dtype: str, python: str | None) -> list[Entry]:
  """Ours, then the peers, where their interpreter is given."""
  return _entries(
    ("train", size, dtype),
    python,
    {
      "Hugging Face, sdpa": ("hf", {}),
      "PyTorch, sdpa, compile": ("torch", {}),
      "PyTorch, eager, compile": ("eager", {}),
      "the same, our memory settings": ("eager", MEMORY),
    },
  )


def decoding(size: str, dtype: str, texts: int, python: str | None) -> list[Entry]:
  """Ours, then the peer, where its interpreter is given."""
  words = ("decode", size, dtype, str(texts))
  return _entries(words, python, {"Hugging Face generate": ("hf", {})})


def _entries(
  words: tuple[str, ...], python: str | None, peers: dict[str, tuple[str, dict[str, str]]]
) -> list[Entry]:
  entries = [Entry("research", (sys.executable, "-m", "research.bench.ours", *words), MEMORY)]
  for name, (peer, environment) in peers.items() if python else ():
    entries.append(Entry(name, (python, str(HERE / "peers.py"), *words, peer), environment))
  return entries


def _peers(options: argparse.Namespace) -> str | None:
  """The interpreter of the peers, or None where they are not asked for."""
  if not options.peers and options.peer_python is None:
    return None
  python = shutil.which(str(options.peer_python or sys.executable))
  check = [python, "-c", "import torch, transformers"]
  if python is None or subprocess.run(check, capture_output=True, check=False).returncode:  # noqa: S603 (the user's)
    raise UserError(
      f"{options.peer_python or sys.executable} cannot import torch and transformers; "
      "give the interpreter of an environment that has them: --peer-python PATH."
    )
  return python


def _measure(what: str, entries: Sequence[Entry], dtype: str, rounds: int) -> None:
  import rich.console
  import rich.progress

  console = rich.console.Console(width=None if sys.stdout.isatty() else 120)
  columns = ("{task.description}", rich.progress.BarColumn(), rich.progress.TimeRemainingColumn())
  seconds: list[list[float]] = [[] for _ in entries]
  held = [0] * len(entries)
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
    for _ in range(rounds):
      for i, worker in enumerate(workers):
        time.sleep(SETTLE)
        answer = worker.ask("go")
        seconds[i].append(answer["seconds"])
        held[i] = answer["peak_memory_bytes"]
        bar.advance(task)
  console.print(_table(what, entries, facts, seconds, held, _limit(facts[0], dtype)))


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
      worker.process.stdin.close()
      worker.process.terminate()
      worker.process.wait()


def _limit(facts: dict[str, Any], dtype: str) -> tuple[str, float, float]:
  """What bounds the work: its name, how much of it one run needs, and how much a second has."""
  if "flops" in facts:
    from research import flops

    return "of product peak", facts["flops"], flops.peak(dtype)
  return "of memory speed", facts["bytes"], memory_speed()


def _table(what, entries, facts, seconds, held, limit):
  import rich.table

  bound, needed, available = limit
  columns = ("tokens/s", "min to max", "research is", bound, "memory", "first run")
  unit = "GB" if "bytes" in facts[0] else "GFLOP"
  title = f"{what} ({bound.removeprefix('of ')} {available / 1e9:,.0f} {unit}/s)"
  table = rich.table.Table("", *columns, title=title)
  tokens = facts[0]["tokens"]
  for entry, fact, times, most in zip(entries, facts, seconds, held):
    rates = [tokens / t for t in times]
    ratios = [t / ours for t, ours in zip(times, seconds[0])]
    table.add_row(
      entry.name + (" (native)" if fact.get("native") else ""),
      f"{statistics.median(rates):,.0f}",
      f"{min(rates):,.0f} to {max(rates):,.0f}",
      "" if entry is entries[0] else f"{statistics.median(ratios):.2f} x",
      f"{needed / statistics.median(times) / available:.0%}",
      f"{short(most)}B",
      f"{fact['first_seconds']:.1f} s",
    )
  return table
