"""A search whose runs train nothing: they write what they would have measured, and take their time.

python -c "from tests.searching import main; main()" FILE:search DIR TRIALS WORKERS SECONDS
"""

import json
import math
import os
import signal
import sys
import time
from pathlib import Path

SECONDS = "SEARCHING_SECONDS"  # of a run's four evaluations, in the environment


def work(task, share):
  """In the place of `worker.work`: goes on behind what the folder holds already."""
  from research.sweep import worker

  worker.heed_runner()
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))
  trial, metrics = task.recipe.knobs["trial"], task.workdir / "metrics.jsonl"
  with open(task.workdir / "starts", "a") as file:
    file.write(f"{os.getppid()}\n")
  begun = len(metrics.read_text().splitlines()) if metrics.exists() else 0
  for step in range(10 * begun + 10, 41, 10):
    time.sleep(float(os.environ[SECONDS]) / 4)
    loss = abs(math.log10(trial["rate"]) + 2) + 1 / step
    with open(metrics, "a") as file:
      file.write(json.dumps({"step": step, "split": "heldout", "loss": loss}) + "\n")
  sys.exit(0)


def main():
  from research import load
  from research.search import declared
  from research.sweep import search, worker

  target, folder, trials, workers, seconds = sys.argv[1:]
  os.environ[SECONDS] = seconds
  worker.work = work
  recipe = load.recipe(target)
  wanted = declared(load.functions(recipe.path)[recipe.function])
  sys.exit(search.search(wanted, recipe, Path(folder), trials=int(trials), workers=int(workers)))
