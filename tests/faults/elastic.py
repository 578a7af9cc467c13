"""A run of eight devices goes on with four, two and one; of two processes with one and four.

Held is: what is restored are the bits that were saved, the batches are those of the run that was
not moved, and so are the losses, within 1e-5 over 20 steps. Batches do not depend on the threads
that read them.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import runs
from .commands import Command, launched, research, written
from .outcome import Outcome, Say, judged, spread

STEPS, MOVED = 40, 20  # the run is moved at the second, and goes on to the first
CLOSE = 1e-5  # relative, of losses
# (devices of a process, processes), from which the run is moved and to which.
MOVES = [
  ((8, 1), (4, 1)),
  ((8, 1), (2, 1)),
  ((8, 1), (1, 1)),
  ((1, 2), (1, 1)),
  ((1, 2), (1, 4)),
]
THREADS = [(0, 2), (2, 0)]


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """`n` moves at even distances, all by default; nothing is random."""
  chosen = spread([*MOVES, *THREADS], n)
  apart: list[float] = [0.0]
  with tempfile.TemporaryDirectory() as name:
    outcome = judged(results(chosen, Path(name), apart), len(chosen), say)
  outcome.figures["losses apart, at most"] = f"{max(apart):.1e}"
  return outcome


def results(chosen: list[tuple], folder: Path, apart: list[float]) -> Iterator[tuple[str, str]]:
  """(move, what was wrong or nothing); `apart` is how far losses were, relative."""
  text = written(folder / "text.txt")
  stayed: dict[tuple[int, int], Path] = {}
  for move in chosen:
    if move in THREADS:
      yield f"{move[0]} reading threads, then {move[1]}", threads(text, *move)
      continue
    here, there = move
    if here not in stayed:
      stayed[here] = folder / "{}-devices-{}-processes".format(*here)
      train(text, stayed[here], *here)
    yield f"{_named(*here)}, then {_named(*there)}", moved(text, stayed[here], there, apart)


def train(text: Path, workdir: Path, devices: int, processes: int) -> None:
  """Trains to the end, from the newest checkpoint.

  Raises:
    RuntimeError: it failed.
  """
  words = ("gpt", f"text={text}", f"steps={STEPS}", "pause=0.0", "sharding=fsdp", "keep.newest=9")
  if processes == 1:
    command = research(*words, workdir=workdir, devices=devices)
  else:
    command = launched(*words, workdir=workdir, processes=processes, devices=devices)
  with command:
    if command.wait() != 0:
      raise RuntimeError(f"{_named(devices, processes)} failed:\n{command.text}")


def moved(text: Path, stayed: Path, there: tuple[int, int], apart: list[float]) -> str:
  """What was wrong with going on elsewhere, or nothing."""
  workdir = stayed.with_name(f"{stayed.name}-moved-to-{there[0]}-{there[1]}")
  shutil.copytree(stayed, workdir)
  for step in range(MOVED + 1, STEPS + 1):
    shutil.rmtree(workdir / "checkpoints" / str(step), ignore_errors=True)
  if runs.newest(workdir) != MOVED:
    return f"{runs.newest(workdir)} was the newest checkpoint"
  found, text_of_it = restored(workdir, *there)
  if found != {runs.digest(runs.arrays(workdir))}:
    return f"other arrays were restored than saved:\n{text_of_it}"
  train(text, workdir, *there)
  if runs.batches(workdir) != runs.batches(stayed):
    return "the batches were others"
  before, after = runs.train_lines(stayed), runs.train_lines(workdir)
  worst = max(abs(after[i]["loss"] / before[i]["loss"] - 1) for i in range(MOVED + 1, STEPS + 1))
  apart.append(worst)
  return "" if worst <= CLOSE else f"losses were {worst:.1e} apart"


def restored(workdir: Path, devices: int, processes: int) -> tuple[set[str], str]:
  """The digest of what the processes restore, in each of them, and what they print."""
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
  with contextlib.ExitStack() as stack:
    commands = [
      stack.enter_context(
        Command(
          "tests.faults.restored",
          workdir,
          devices=devices,
          RESEARCH_COORDINATOR=f"127.0.0.1:{port}",
          RESEARCH_PROCESSES=str(processes),
          RESEARCH_PROCESS=str(i),
        )
      )
      for i in range(processes)
    ]
    codes = [command.wait() for command in commands]
    printed = "\n".join(command.text for command in commands)
    said = [command.find(r"restored (\w+)") for command in commands]
  if any(codes) or not all(said):
    return set(), printed
  return {match[1] for match in said}, printed


def threads(text: Path, first: int, then: int) -> str:
  """Reads on from a step with other threads than from the start; what was wrong, or nothing."""
  import numpy as np

  from research import load
  from research.data import pipeline

  from .commands import ROOT, SUBJECT

  words = [f"text={text}", f"steps={STEPS}", "pause=0.0"]
  source = load.recipe(f"{ROOT / SUBJECT}:gpt", words).experiment().data.source("train")

  def read(start: int, count: int) -> list[pipeline.Batch]:
    batches = pipeline.batches(source, 8, seed=0, start=start, threads=count)
    return [next(batches) for _ in range(start, STEPS)]

  before, after = read(0, first)[MOVED:], read(MOVED, then)
  same = all(
    a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)
    for a, b in zip(before, after, strict=True)
  )
  return "" if same else "the batches were others"


def _named(devices: int, processes: int) -> str:
  return f"{devices} devices" if processes == 1 else f"{processes} processes"
