"""What a run folder tells of the steps that were not taken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import runs


def skipped(workdir: Path) -> list[int]:
  """The steps that, by the journal, were not taken."""
  return [step for step, line in runs.train_lines(workdir).items() if line["skipped"]]


def uneven(workdir: Path, steps: int) -> str:
  """What is wrong with the journal: every step has one line, in order; nothing if it is so."""
  text = (workdir / "metrics.jsonl").read_text(encoding="utf-8")
  lines = [json.loads(line) for line in text.splitlines()]
  found = [line["step"] for line in lines if line["split"] == "train"]
  return "" if found == [*range(1, steps + 1)] else f"the journal has lines of the steps {found}"


def undumped(experiment: Any, workdir: Path, batches: Mapping[int, int]) -> str:
  """What is wrong with the batches that were written down; nothing if all are there and right.

  Args:
    experiment: of the run, from `poison`.
    workdir: of the run.
    batches: step -> the batch of the data that it did not take.
  """
  import numpy as np

  from research.data import pipeline

  found = sorted(path.name for path in (workdir / "skipped").glob("*"))
  wanted = sorted(f"step-{step}.npz" for step in batches)
  if found != wanted:
    return f"written down were {found}, not {wanted}"
  source, size = experiment.data.source("train"), experiment.batch_size
  for step, number in batches.items():
    epochs, numbers = pipeline.examples(source, size, seed=experiment.seed, step=number)
    with np.load(workdir / "skipped" / f"step-{step}.npz") as dump:
      if not (np.array_equal(dump["epochs"], epochs) and np.array_equal(dump["numbers"], numbers)):
        return f"step {step} is said to be of other examples"
      # Made again of what was written, one example after the other.
      again = [source.take(np.array([n]), int(e)) for e, n in zip(dump["epochs"], dump["numbers"])]
      for key in again[0]:
        rows = np.concatenate([example[key] for example in again])
        if rows.tobytes() != dump[f"batch/{key}"].tobytes():
          return f"the examples of step {step} do not give its batch again ({key})"
  return ""
