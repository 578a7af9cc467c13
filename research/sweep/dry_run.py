"""What a sweep would cost: a table of its experiments, each kind measured by three steps.

Experiments that differ in their seed alone cost the same, and one of them is measured. Nothing is
written into the sweep's folder.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
import multiprocessing
import os
import queue
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from research import forks
from research.experiment import BOOKKEEPING, Experiment
from research.load import Recipe
from research.log.progress import duration, short
from research.sweep import probe, row
from research.sweep.probe import Cost
from research.sweep.shares import Share, shares

# What does not change the cost of a step, beside names: but a mesh and evaluations do.
ALIKE = {"name", "seed", *BOOKKEEPING} - {"sharding"}


@dataclasses.dataclass(frozen=True)
class Kind:
  """Experiments of one cost: all of them, and those that are not done yet."""

  experiments: list[Experiment]
  todo: int

  @property
  def label(self) -> str:
    """The name of the first, with `*` for its seed where there are others."""
    name = self.experiments[0].name
    return f"{name.rpartition('/')[0]}/*" if len(self.experiments) > 1 and "/" in name else name


def show(
  recipe: Recipe, experiments: Sequence[Experiment], workdir: Path, workers: int | None
) -> int:
  """Prints the table; returns 0, or 1 where an experiment could not be measured."""
  found = kinds(experiments, workdir)
  todo = sum(kind.todo for kind in found)
  parts = shares(workers, max(todo, 1))
  costs = measure(recipe, [kind.experiments[0].name for kind in found], parts)
  _print(found, costs, len(parts))
  return int(any(cost.error for cost in costs))


def kinds(experiments: Sequence[Experiment], workdir: Path) -> list[Kind]:
  """The experiments, those of one cost together, in the order of their first."""
  rows = row.rows(experiments, workdir)
  together: dict[tuple[tuple[str, str], ...], list[int]] = {}
  for i, experiment in enumerate(experiments):
    description = experiment.describe().items()
    key = tuple(item for item in description if item[0].split(".")[0] not in ALIKE)
    together.setdefault(key, []).append(i)
  return [
    Kind([experiments[i] for i in alike], sum(not rows[i].done_before() for i in alike))
    for alike in together.values()
  ]


def measure(recipe: Recipe, names: Sequence[str], parts: Sequence[Share]) -> list[Cost]:
  """The costs of experiments, as many measured at once as there would be runs at once."""
  context = forks.context()
  begun: list[multiprocessing.Process] = []
  free: queue.SimpleQueue[Share] = queue.SimpleQueue()
  for part in parts:
    free.put(part)

  def one(name: str) -> Cost:
    share = free.get()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=probe.work, args=(recipe, name, share, theirs))
    process.start()
    begun.append(process)
    theirs.close()
    try:
      return Cost(**ours.recv())
    except EOFError:
      process.join()
      return Cost(error=f"its process ended with {process.exitcode}")
    finally:
      process.join()
      free.put(share)

  with ThreadPoolExecutor(len(parts)) as pool:
    try:
      return list(pool.map(one, names))
    except BaseException:  # as by Ctrl-C, which reaches none of them
      for process in begun:
        process.kill()
      raise


def together(seconds: Iterable[float], workers: int) -> float:
  """Seconds until all runs are done: each begins, in turn, when a worker has become free."""
  ends, seconds = [0.0] * workers, list(seconds)
  if any(math.isnan(each) for each in seconds):
    return math.nan  # a heap would lose it among numbers
  for each in seconds:
    heapq.heapreplace(ends, ends[0] + each)
  return max(ends)


def _print(found: Sequence[Kind], costs: Sequence[Cost], workers: int) -> None:
  from rich.console import Console
  from rich.table import Table

  table = Table(box=None, pad_edge=False)
  heads = ("experiment", "runs", "to do", "parameters", "FLOPs", "memory", "compile", "step", "run")
  for head in heads:
    table.add_column(head, justify="left" if head == "experiment" else "right", overflow="fold")
  pairs = list(zip(found, costs, strict=True))
  for kind, cost in pairs:
    known = (
      [cost.error]
      if cost.error
      else [
        short(cost.parameters),
        short(cost.flops),
        f"{short(cost.memory)}B",
        f"{cost.compile_seconds:.1f} s",
        f"{1000 * cost.step_seconds:.3g} ms",
        duration(cost.seconds),
      ]
    )
    table.add_row(kind.label, str(len(kind.experiments)), str(kind.todo), *known)
  wide = None if sys.stdout.isatty() else 10_000
  Console(width=wide, markup=False, highlight=False).print(table)
  runs = [cost.seconds for kind, cost in pairs for _ in range(kind.todo)]
  flops = sum(cost.flops * kind.todo for kind, cost in pairs if kind.todo)  # 0 * nan is no number
  memory = (cost.memory for kind, cost in pairs if not cost.error for _ in range(kind.todo))
  most = sum(heapq.nlargest(workers, memory))
  total = sum(len(kind.experiments) for kind in found)
  print(
    f"{total} runs, {len(runs)} to do, {workers} at once: about "
    f"{_known(together(runs, workers), duration)} without evaluations and saves; "
    f"{_known(flops, short)} FLOPs; at most {short(most)}B of the machine's "
    f"{short(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))}B of memory at once"
  )


def _known(value: float, say) -> str:
  return "an unknown time" if math.isnan(value) and say is duration else say(value)
