"""What a run's folder says of the run, as names with values."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from research import entry, lock, report
from research.log.lines import Line, number
from research.report.run import Run, holds_a_run
from research.retention import Keep
from research.steps import Steps

Value = float | int | str
FILES = ("entry.json", "experiment.json", "metrics.jsonl")  # a folder with the first two is a run's
SUMMED = ("compile_seconds", "train_seconds", "evaluate_seconds", "save_seconds")


@dataclasses.dataclass(frozen=True)
class Facts:
  """Of one run.

  Attributes:
    folder: under that of the ledger, with slashes.
    run: how it stands: "state", "error", "step", "seconds", "identity", "code", "data", ...
    figures: "<evaluation>.<value>" of the newest evaluation of each name, "train.loss".
    fields: of the experiment, by dotted path.
    versions: of Python and libraries, as "versions.<name>".
    files: bytes by name; those of checkpoints are not told one by one.
  """

  folder: str
  run: dict[str, Value]
  figures: dict[str, Value] = dataclasses.field(default_factory=dict)
  fields: dict[str, Value] = dataclasses.field(default_factory=dict)
  versions: dict[str, Value] = dataclasses.field(default_factory=dict)
  files: dict[str, Value] = dataclasses.field(default_factory=dict)

  def get(self, name: str) -> Value | None:
    """The value of that name, whatever it is a fact about."""
    for kind in (self.run, self.figures, self.fields, self.versions, self.files):
      if name in kind:
        return kind[name]
    return None


def folders(root: Path) -> Iterator[Path]:
  """The folders of runs in `root`, itself among them; inside a run none is looked for."""
  for path, names, files in os.walk(root):
    if any(name in files for name in FILES[:2]):
      names.clear()
      yield Path(path)
    names.sort()


def stamp(run: Path) -> str:
  """Other text when the folder says something else."""
  parts = []
  for name in FILES:
    with contextlib.suppress(OSError):
      told = (run / name).stat()
      parts.append(f"{name} {told.st_mtime_ns} {told.st_size}")
  return "; ".join(parts)


def read(run: Path, folder: str) -> Facts:
  """What a run's folder says; what is missing or broken in it is left out."""
  about = entry.read(run)
  found = report.read(run) if holds_a_run(run) else _nothing(about)
  description = found.experiment["description"]
  steps = Steps(run / "checkpoints", Keep())
  stored = steps.all()
  standing: dict[str, Value | None]
  if about is not None:
    standing = dataclasses.asdict(about)
    versions = standing.pop("versions")
    del standing["name"], standing["seed"]  # they are fields
  else:  # a folder that an earlier release left, or that lost its entry
    complete = found.steps is not None and max(stored, default=found.step) >= found.steps
    state = entry.RUNNING if lock.holder(run) else entry.DONE if complete else entry.STOPPED
    standing = {"state": state, "identity": entry.identity(description)}
    versions = found.experiment.get("versions", {})
  standing |= {
    "data": _fingerprint(steps, stored),
    "step": max([found.step, *stored]),
    "seconds": found.seconds,
    **_timing(found.timing),
    **{name: found.facts.get(name) for name in ("parameters", "flops_per_step", "device")},
  }
  return Facts(
    folder,
    run={name: value for name, value in standing.items() if value not in (None, "")},
    figures=dict(_figures(found)),
    fields={
      "name": found.name,
      **({} if about is None else {"seed": about.seed}),
      **{path: _plain(text) for path, text in description.items()},
    },
    versions={f"versions.{name}": str(version) for name, version in versions.items()},
    files=dict(_files(run)),
  )


def _nothing(about: entry.Entry | None) -> Run:
  """Of a run that failed before it began."""
  name = "" if about is None else about.name
  return Run(name, {"description": {}}, [], {}, {}, {}, [], [], 0.0, 0)


def _figures(found: Run) -> Iterator[tuple[str, Value]]:
  newest = {name: lines[-1] for name, lines in found.evaluations.items() if lines}
  if found.train:
    newest["train"] = {"loss": found.train[-1].get("loss")}
  for name, line in newest.items():
    for key, value in line.items():
      if key in ("step", "time", "split"):
        continue
      for path, part in _leaves(f"{name}.{key}", value):
        yield path, number(part)


def _leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
  if isinstance(value, dict):
    for key, part in value.items():
      yield from _leaves(f"{path}.{key}", part)
  elif isinstance(value, int | float | str):
    yield path, value


def _timing(lines: list[Line]) -> dict[str, float]:
  """Seconds over all stretches of the run."""
  return {
    name: sum(number(line[name]) for line in lines if name in line)
    for name in SUMMED
    if any(name in line for line in lines)
  }


def _fingerprint(steps: Steps, stored: list[int]) -> str:
  """Of the data, from the manifest of the newest checkpoint that can be read."""
  if not stored:
    return ""
  from research.array_files import words_of
  from research.fingerprint import read_manifest

  for step in reversed(stored):
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
      return read_manifest(words_of(steps.path(step))).about.get("data", "")
  return ""


def _plain(text: str) -> Value:
  """What a description says of a field: a number, a text without its quotes, else as it is."""
  with contextlib.suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
    value = ast.literal_eval(text)
    if isinstance(value, str | int | float) and not isinstance(value, bool):
      return value
  return text


def _files(run: Path) -> Iterator[tuple[str, int]]:
  with os.scandir(run) as items:
    for item in sorted(items, key=lambda item: item.name):
      if item.is_file() and not item.name.startswith("."):
        yield item.name, item.stat().st_size
