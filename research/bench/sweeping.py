"""What a sweep costs beside its runs: small GPTs that differ in their learning rate, on all cores.

A sweep is compared with the sum of what its runs would do by themselves: their steps, and one
compilation each. What is more is the starting of processes, of the runner and of the backend, the
opening of folders, evaluations and saves, and the cores that idle at the end; what is less are the
compilations, for rates are given to one program (`research.step`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from research import entry
from research.bench.sizes import SWEPT
from research.errors import RunError
from research.ledger import Facts, Ledger
from research.nn import native

RUNS = 4  # for each round that is asked for
FILE = '''"""Small GPTs that differ in their learning rate."""

from research import Eval, Experiment, Sharding, data, models, objectives, optim


def experiment(text: str, steps: int, runs: int):
  next_token = objectives.NextToken()
  for i in range(runs):
    yield Experiment(
      name=f"rate_{i}",
      data=data.Text(data.Files(text, separator="\\n"), data.Bytes(), length=64),
      model=models.GPT(vocab_size=264, max_length=64, width=64, depth=2, heads=2),
      objective=next_token,
      optimizer=optim.AdamW(optim.Cosine(1e-3 * 1.1**i, warmup=10)),
      steps=steps,
      batch_size=16,
      evals={"heldout": Eval(next_token, batches=4, every=steps)},
      save_every=steps,
      sharding=Sharding(mesh={"data": -1}),
    )
'''


def run(options: argparse.Namespace) -> int:
  """Sweeps `RUNS` times `options.rounds` runs of `options.size`, and prints a table.

  Raises:
    RunError: the sweep failed.
  """
  count, steps = RUNS * options.rounds, SWEPT[options.size]
  workers = len(os.sched_getaffinity(0))
  with tempfile.TemporaryDirectory(dir=options.folder, prefix="research-bench-") as name:
    folder = Path(name)
    (folder / "file.py").write_text(FILE, encoding="utf-8")
    lines = (f"{a} to be or not to be {b}, that is {a * b}" for a in range(60) for b in range(60))
    (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    words = (f"text={folder / 'text.txt'}", f"steps={steps}", f"runs={count}")
    command = [sys.executable, "-m", "research.cli", "sweep", str(folder / "file.py"), *words]
    native.available()  # kernels in C++ are made once a machine, not once a sweep
    begun = time.perf_counter()
    done = subprocess.run(  # noqa: S603 (ourselves)
      [*command, "--workdir", str(folder / "runs"), "--workers", str(workers)],
      # No program is found that was kept before.
      env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(folder / "kept")},
      check=False,
    )
    seconds = time.perf_counter() - begun
    if done.returncode:
      raise RunError(f"the sweep ended with exit code {done.returncode}.")
    with Ledger(folder / "runs") as ledger:
      ledger.refresh()
      found = ledger.find()
    entries = [entry.read(folder / "runs" / each.folder) for each in found]
  lasted = max(each.ended for each in entries) - min(each.began for each in entries)
  logged = [float(each.run["seconds"]) for each in found]
  beside = [each.ended - each.began - own for each, own in zip(entries, logged, strict=True)]
  _print(found, seconds, lasted, statistics.median(beside), workers)
  return 0


def _print(found: list[Facts], seconds: float, lasted: float, beside: float, workers: int) -> None:
  from rich.console import Console
  from rich.table import Table

  def total(*names: str) -> float:
    return sum(float(each.run.get(name, 0.0)) for each in found for name in names)

  steps, compiled = total("train_seconds"), total("compile_seconds")
  # One that finds nothing kept takes longest.
  separate = len(found) * max(float(each.run["compile_seconds"]) for each in found)
  done = steps + compiled + total("evaluate_seconds", "save_seconds")

  def more(than: float) -> str:
    return f"{100 * (seconds * workers / than - 1):+.1f} %"

  table = Table(title=f"a sweep of {len(found)} runs, {workers} at once, a core each")
  table.add_column("")
  table.add_column("", justify="right")
  lines = {
    "the sweep, from the command to its end": f"{seconds:.1f} s",
    "  from the first start of a run to the last end": f"{lasted:.1f} s",
    "steps of all runs": f"{steps:.1f} s",
    "compilations": f"{compiled:.1f} s",
    "  if each had made its own": f"{separate:.1f} s",
    "a run, from its start to its journal's and from there to its end": f"{beside:.2f} s",
    "evaluations, saves": f"{total('evaluate_seconds', 'save_seconds'):.1f} s",
    "cores' time over steps and one compilation each": more(steps + separate),
    "  over steps, compilations as made, evaluations, saves": more(done),
    "cores busy with runs, of the whole": f"{100 * total('cpu_seconds') / seconds / workers:.0f} %",
    "  from the first start to the last end": (
      f"{100 * total('cpu_seconds') / lasted / workers:.0f} %"
    ),
  }
  for name, value in lines.items():
    table.add_row(name, value)
  Console(width=100).print(table)
