"""What a run left in its folder, as a value: whatever is missing or broken is left out."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import chain
from pathlib import Path
from typing import Any

from research import log
from research.errors import UserError
from research.log import lines
from research.log.lines import Line

FILES = ("metrics.jsonl", "experiment.json")


@dataclasses.dataclass(frozen=True)
class Run:
  """What a run wrote. Of lines for the same step, the last one counts.

  Attributes:
    name: of the experiment, or of the folder.
    experiment: experiment.json.
    train: lines by step, in order.
    evaluations: the same, by name of the evaluation; the main one first.
    baselines: by name.
    facts: of the model.
    timing: all timing lines.
    samples: lines of samples.jsonl.
    seconds: from the beginning to the last line, over all stretches.
    broken: lines that could not be read.
  """

  name: str
  experiment: dict[str, Any]
  train: list[Line]
  evaluations: dict[str, list[Line]]
  baselines: dict[str, Line]
  facts: Line
  timing: list[Line]
  samples: list[Line]
  seconds: float
  broken: int

  @property
  def step(self) -> int:
    """The last one that left a line."""
    logged = chain(self.train, *self.evaluations.values())
    return max((line["step"] for line in logged), default=0)

  @property
  def steps(self) -> int | None:
    """Of the whole run, where the experiment tells."""
    steps = lines.number(self.experiment.get("description", {}).get("steps"))
    return int(steps) if math.isfinite(steps) else None

  @property
  def ended(self) -> bool:
    """Whether it has come to its end, as far as its files tell; counted models take no steps."""
    if self.experiment.get("description", {}).get("optimizer") == "None":
      return bool(self.evaluations)
    return self.steps is None or self.step >= self.steps


@dataclasses.dataclass(frozen=True)
class Unit:
  """What losses are told in: the key of a line, with another that means the same."""

  key: str
  label: str
  instead: str = ""

  def of(self, line: Line) -> float:
    """The value in this unit, NaN where the line has none."""
    return lines.number(line.get(self.key, line.get(self.instead)))

  def error(self, line: Line) -> float:
    """Its standard error; of bits per byte as of nats, the text's bytes being what they are."""
    errors = line.get("standard_error")
    if not isinstance(errors, dict):
      return math.nan
    error = lines.number(errors.get(self.key, errors.get(self.instead)))
    if math.isnan(error) and self.key == "bits_per_byte":
      nats = Unit("nats", "", "loss")
      return self.of(line) * nats.error(line) / (nats.of(line) or math.nan)
    return error


def holds_a_run(workdir: Path) -> bool:
  """Whether a folder holds a run; of one that failed before it began it holds an entry alone."""
  return any((workdir / name).exists() for name in FILES)


def read(workdir: Path) -> Run:
  """Reads a run, finished or not."""
  files = [workdir / name for name in FILES]
  if not holds_a_run(workdir):
    raise UserError(
      f"{workdir} holds no run: it has neither metrics.jsonl nor experiment.json; "
      "give the folder that the run's --workdir named."
    )
  metrics, broken = lines.read(files[0])
  samples, broken_samples = lines.read(workdir / "samples.jsonl")
  experiment, broken_experiment = _experiment(files[1])
  splits: dict[str, list[Line]] = {}
  for line in metrics:
    splits.setdefault(str(line.get("split")), []).append(line)
  description = experiment["description"]
  times = [lines.number(line.get("time")) for line in metrics]
  evaluations = {name: _by_step(found) for name, found in splits.items() if name not in log.OWN}
  first = [name for name in ("heldout", "validation", "test") if name in evaluations]
  return Run(
    name=str(experiment.get("name") or description.get("name", "")).strip("'")
    or workdir.absolute().name,
    experiment=experiment,
    train=_by_step(splits.get("train", [])),
    evaluations={name: evaluations[name] for name in (*first, *evaluations)},
    baselines={str(line.get("name")): line for line in splits.get("baseline", [])},
    facts={k: v for line in splits.get("model", []) for k, v in line.items()},
    timing=splits.get("timing", []),
    samples=samples,
    seconds=max((t for t in times if math.isfinite(t)), default=0.0),
    broken=broken + broken_samples + broken_experiment,
  )


def _experiment(path: Path) -> tuple[dict[str, Any], int]:
  found: Any = {}
  if path.exists():
    try:
      found = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except ValueError:
      found = None
  broken = not isinstance(found, dict)
  found = {} if broken else found
  if not isinstance(found.get("description"), dict):
    found = {**found, "description": {}}
  return found, int(broken)


def _by_step(found: list[Line]) -> list[Line]:
  good = [line for line in found if isinstance(line.get("step"), int)]
  return [line for _, line in sorted({line["step"]: line for line in good}.items())]


def units(run: Run) -> list[Unit]:
  """Bits per byte where something was measured in them, and nats per token or the loss."""
  known = chain(run.train, run.baselines.values(), *run.evaluations.values())
  keys = {key for line in known for key in line}
  found = [Unit("bits_per_byte", "bits per byte")] if "bits_per_byte" in keys else []
  if "nats" in keys or "perplexity" in keys:
    found.append(Unit("nats", "nats per token", "loss"))
  elif "loss" in keys:
    found.append(Unit("loss", "loss"))
  return found
