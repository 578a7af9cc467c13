"""What a run folder remembers: the file, the words and the versions that made it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from research import disk, load, secrets
from research.errors import UserError, reason
from research.experiment import BOOKKEEPING, Experiment
from research.overrides import restored

OWN = "<this folder>"  # the run's own, in what it remembers of itself: it may be moved
RESULTS = ("metrics.jsonl", "checkpoints", "model.npz")  # a folder without them holds no run yet
PARTS = ("knobs", "overrides", "description")  # of experiment.json: name -> Python text of a value
WRITES = ("model", "average")  # the fields on which what a trained model writes depends


def open_run(workdir: Path) -> tuple[Experiment, dict[str, Any]]:
  """The experiment of a run folder, rebuilt from the file and words that it remembers.

  Raises:
    UserError: no run there, or the file now describes another experiment; the file came with the
      run, whose author would have us run it; a secret is not in the environment.
  """
  record = read_record(workdir)
  made = load.Recipe(
    _file(workdir, record["file"]),
    record["function"],
    _given(workdir, record["knobs"]),
    _given(workdir, record["overrides"]),
  )
  name, description = record["name"], secrets.describe(record["description"])
  for experiment in made.experiments(restored):
    if experiment.name == name:
      break
  else:
    raise UserError(f"{made.path} no longer names the experiment {name!r} of {workdir}.")
  different = _within(differences(description, _described(experiment)), WRITES)
  if different:
    raise UserError(
      f"{made.path} has changed since {workdir} was run: {'; '.join(different[:4])}; "
      "change it back, or run it again with another --workdir."
    )
  return experiment, record


def model_of(workdir: str) -> Any:
  """The model that a run trained, or that was imported, to be the body of another; not its values.

  Raises:
    UserError: as of `open_run`.
  """
  return open_run(Path(workdir))[0].model.clone(parent=None)


def read_record(workdir: Path) -> dict[str, Any]:
  """What `experiment.json` in a run folder says; UserError when it is missing or damaged.

  Where it says `OWN`, the place where the folder is now stands in the result.
  """
  path = Path(workdir) / "experiment.json"
  if not path.is_file():
    raise UserError(f"{workdir} holds no run (no experiment.json); give the --workdir of one.")
  try:
    record = json.loads(path.read_text(encoding="utf-8"))
  except (ValueError, OSError, RecursionError) as error:
    raise UserError(f"{path} cannot be read: {reason(error)}.") from error
  record = record if isinstance(record, dict) else {}
  texts = [record.get(key) for key in ("name", "file", "function")]
  for key in PARTS:
    part = record.get(key)
    texts += part.values() if isinstance(part, dict) else [None]
  if not all(isinstance(text, str) for text in texts):
    raise UserError(
      f"{path} is damaged: it does not say which experiment was run; copy it from where it is "
      "whole, or run the experiment again with another --workdir."
    )
  here = str(Path(workdir).absolute())
  for key in PARTS:
    record[key] = {name: replaced(text, OWN, here) for name, text in record[key].items()}
  return record


def replaced(text: str, old: str, new: str) -> str:
  """The Python text of a value, with `new` for `old` where the value is a text."""
  value = load.literal(text) if old in text else None
  return repr(value.replace(old, new)) if isinstance(value, str) else text


def _file(workdir: Path, name: str) -> Path:
  """The experiment file of a run. It is code: what came with the run's data is never run."""
  path = Path(name)
  if not path.is_absolute() or path.resolve().is_relative_to(Path(workdir).resolve()):
    raise UserError(
      f"{workdir}/experiment.json names {name!r}, which is not a file of your own: an experiment "
      "file has a whole path, outside of the run's folder. Is this run somebody else's?"
    )
  return path


def _given(workdir: Path, words: dict[str, str]) -> dict[str, Any]:
  """Knobs or overrides as they were given; secrets, which nobody wrote down, anew."""
  given = {}
  for name, text in words.items():
    if secrets.REDACTED in text:
      variable = re.sub(r"\W", "_", name).upper()
      if variable not in os.environ:
        raise UserError(
          f"{workdir} does not remember {name}, a secret; give it again in the environment, as "
          f"{variable}."
        )
      text = os.environ[variable]
    given[name] = load.literal(text)
  return given


def _described(experiment: Experiment) -> dict[str, str]:
  return secrets.describe(experiment.describe())


def check_name(experiment: Experiment) -> None:
  """UserError where the name is none of which a folder can be made."""
  if not re.fullmatch(r"\w[\w.\-]*(/\w[\w.\-]*)*", experiment.name):
    raise UserError(f"name={experiment.name!r}: use letters, digits, '_', '-' and '.'.")


def remember(workdir: Path, recipe: load.Recipe, experiment: Experiment) -> None:
  """Writes `experiment.json`, or checks that the run already there is of the same experiment.

  Raises:
    UserError: the folder cannot be written, or holds the run of another experiment.
  """
  path = Path(workdir) / "experiment.json"
  if path.is_file() and any((Path(workdir) / name).exists() for name in RESULTS):
    changes = differences(
      secrets.describe(read_record(workdir)["description"]), _described(experiment)
    )
    different = [text for text in changes if text not in _within(changes, BOOKKEEPING)]
    if different:
      more = f" and {len(different) - 3} more" if len(different) > 3 else ""
      raise UserError(
        f"{workdir} holds the run of another experiment ({'; '.join(different[:3])}{more}); "
        "give the same arguments to resume it, or another --workdir."
      )
  record = {
    "name": experiment.name,
    "file": str(recipe.path.resolve()),
    "function": recipe.function,
    "knobs": {name: repr(secrets.hidden(name, v)) for name, v in recipe.knobs.items()},
    "overrides": {name: repr(secrets.hidden(name, v)) for name, v in recipe.overrides.items()},
    "description": _described(experiment),
    "command": recipe.command(workdir),
    "versions": {
      name: importlib.metadata.version(name)
      for name in ("jax", "flax", "optax", "orbax-checkpoint", "grain")
    },
    "python": platform.python_version(),
  }
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    disk.replace(path, json.dumps(record, indent=1))
  except OSError as error:
    raise UserError(
      f"{workdir} cannot be written: {error.strerror}; give another --workdir."
    ) from error


def differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
  """`path: old -> new` for every field that differs between two descriptions."""
  missing = "(none)"
  return [
    f"{path}: {old.get(path, missing)} -> {new.get(path, missing)}"
    for path in {**old, **new}
    if old.get(path) != new.get(path)
  ]


def _within(changes: list[str], fields: Sequence[str]) -> list[str]:
  """Those of `differences` that are in the named fields of an experiment."""
  return [text for text in changes if text.split(":")[0].split(".")[0] in fields]
