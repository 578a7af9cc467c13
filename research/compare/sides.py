"""What stands on either side of a comparison: an experiment file with its words, or a run folder.

A side is written as what follows `research run`, in quotes, or as the folder of a run:

  "experiments/gpt2.py size=xl"
  "sweeps/rates.py --only rates/1e-3"   of several experiments the one of this name
  runs/gpt2
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path

from research import load, record, secrets
from research.errors import UserError, nearest
from research.experiment import Experiment

ONLY = "--only"


@dataclasses.dataclass(frozen=True)
class Side:
  """One of the two.

  Attributes:
    said: as it was given.
    description: field by field, without secrets; of a run as it was when it was run.
    experiment: None of a run whose file is not what it was.
    folder: of a run, or None.
    note: why there is no experiment.
    versions: of the packages that a run was made with.
  """

  said: str
  description: dict[str, str]
  experiment: Experiment | None
  folder: Path | None = None
  note: str = ""
  versions: dict[str, str] = dataclasses.field(default_factory=dict)


def side(said: str) -> Side:
  """Reads one side; nothing of its data is opened.

  Raises:
    UserError: neither a run folder nor an experiment, or several without a name.
  """
  if os.path.isdir(said):  # of what is too long for a name, Path.is_dir raises
    return _of_run(said)
  try:
    target, *words = shlex.split(said)
  except ValueError as error:
    raise UserError(
      f'{said!r} is neither a folder nor a file with words: write "FILE name=value ...".'
    ) from error
  name, words = _only(words)
  experiments = load.recipe(target, words).experiments()
  names = [experiment.name for experiment in experiments]
  if name is None and len(names) > 1:
    raise UserError(
      f"{target} names {len(names)} experiments; choose one of them in the quotes, as "
      f'"{said} {ONLY} {names[0]}".'
    )
  found = [experiment for experiment in experiments if name in (None, experiment.name)]
  if not found:
    raise UserError(f"{target} names no experiment {name!r}.{nearest(name, names)}")
  return Side(said, secrets.describe(found[0].describe()), found[0])


def differences(a: Side, b: Side) -> list[tuple[str, str | None, str | None]]:
  """(dotted path, of a, of b) of every field that is not the same; None where there is none.

  The name of an experiment is not what it is.
  """
  paths = {**a.description, **b.description}
  return [
    (path, a.description.get(path), b.description.get(path))
    for path in paths
    if path != "name" and a.description.get(path) != b.description.get(path)
  ]


def _only(words: list[str]) -> tuple[str | None, list[str]]:
  if ONLY not in words:
    return None, words
  at = words.index(ONLY)
  if at + 1 == len(words):
    raise UserError(f"{ONLY} needs the name of an experiment behind it.")
  return words[at + 1], words[:at] + words[at + 2 :]


def _of_run(said: str) -> Side:
  folder = Path(said)
  kept = record.read_record(folder)
  description = secrets.describe(kept["description"])
  experiment, note = None, ""
  try:
    experiment, _ = record.open_run(folder)
    changed = record.differences(description, secrets.describe(experiment.describe()))
    if changed:
      note = f"{kept['file']} has changed since {folder} was run: {'; '.join(changed[:3])}"
      experiment = None
  except UserError as error:
    note = str(error)
  versions = kept.get("versions")
  versions = {str(k): str(v) for k, v in versions.items()} if isinstance(versions, dict) else {}
  return Side(said, description, experiment, folder, note, versions)
