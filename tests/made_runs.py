"""Run folders as they stand after training, without any: losses are given, and fall to them."""

import dataclasses
import json
import math
from pathlib import Path

from research import entry

STEPS = 40


def make(folder, experiment, file, loss, *, state=entry.DONE, error="", cost=1.0, samples=()):
  """A run of an experiment that ended at a held-out `loss`; the others are of its costs."""
  folder.mkdir(parents=True)
  found = dataclasses.replace(entry.first(experiment, Path(file)), state=state, error=error)
  entry.write(folder, found)
  record = {"name": experiment.name, "description": experiment.describe()}
  (folder / "experiment.json").write_text(json.dumps(record))
  if state != entry.DONE:
    return
  facts = {"parameters": round(1000 * cost), "flops_per_step": 1e6 * cost, "device": "1 cpu"}
  told = [{"time": 0.0, "split": "model", **facts}]
  for step in range(5, STEPS + 1, 5):
    told.append({"step": step, "time": cost * step, "split": "train", "loss": 3.0})
    told[-1]["tokens"] = 256 * step
    nats = loss + 2 * math.exp(-step / 6) * (step < STEPS)
    measured = {"loss": nats, "nats": nats, "standard_error": {"nats": 0.02}}
    told.append({"step": step, "time": cost * step, "split": "heldout", **measured})
  (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
  (folder / "samples.jsonl").write_text(
    "".join(json.dumps({"step": STEPS, "prompt": p, "text": t}) + "\n" for p, t in samples)
  )
