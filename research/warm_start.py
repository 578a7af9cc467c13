"""A fresh run's first state, with the parameters of another run (`Experiment.init_from`)."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from research import checkpoint, distributed
from research.data import vocabulary
from research.errors import UserError
from research.init_from import InitFrom, Match, some
from research.retention import read_scores
from research.stacking import restack, unstack
from research.steps import SCORES

ORIGIN = "init_from"  # in a manifest
WORDS, SOURCE_WORDS = "vocabulary", "source_vocabulary"  # of a run, folders in its folder


@dataclasses.dataclass(frozen=True)
class Start:
  """The checkpoint that a run starts from; nothing of its arrays has been read.

  Attributes:
    folder: of the checkpoints.
    step: of the checkpoint.
    under: the part of the state that is taken, "params" or "average".
    match: of the names.
    fingerprint: changes with any bit of what is taken.
  """

  folder: Path
  step: int
  under: str
  match: Match
  fingerprint: str

  def __str__(self) -> str:
    said = f"{self.folder}/{self.step}: {len(self.match.taken)} arrays of its {self.under}"
    for what in ("new", "unused"):
      if names := getattr(self.match, what):
        said += f"; {what}: {some(names)}"
    return f"{said} [{self.fingerprint}]"


def first(init_from: InitFrom | None, program: Any) -> tuple[Any, dict[str, str]]:
  """The state before the first update, and what its arrays come from where not from chance.

  Raises:
    UserError, IntegrityError: as `find` and `begin`.
  """
  if init_from is None:
    return program.init(), {}
  with distributed.together("looking at the run to start from"):
    start = find(init_from, unstack(program.abstract.params))
  return begin(start, program), {ORIGIN: str(start)}


def origin(about: Mapping[str, str]) -> dict[str, str]:
  """What a manifest's words say of the run that its own run started from."""
  return {ORIGIN: about[ORIGIN]} if ORIGIN in about else {}


def find(init_from: InitFrom, wanted: Mapping[str, Any]) -> Start:
  """The checkpoint to start from.

  Args:
    init_from: names it.
    wanted: name -> `jax.ShapeDtypeStruct` of each parameter of this run, a layer at a time.

  Raises:
    UserError: no such run or checkpoint, or its parameters do not go with those that are wanted.
    IntegrityError: the checkpoint is damaged.
  """
  folder = Path(init_from.run) / "checkpoints"
  if not folder.is_dir():
    raise UserError(
      f"init_from.run={init_from.run} holds no checkpoints; give the folder of a run that was "
      "trained or imported."
    )
  with checkpoint.Checkpoints(folder) as checkpoints:
    step = _chosen(init_from, checkpoints)
    arrays = checkpoints.stored(step).arrays
  under = "average" if any(name.startswith("average/") for name in arrays) else "params"
  stored = {
    name.removeprefix(f"{under}/"): array
    for name, array in arrays.items()
    if name.startswith(f"{under}/")
  }
  match = init_from.match(wanted, stored, f"{folder}/{step}")
  taken = sorted((there, stored[there].fingerprint) for there in match.taken.values())
  fingerprint = hashlib.blake2b(repr(taken).encode(), digest_size=8).hexdigest()
  return Start(folder, step, under, match, fingerprint)


def begin(start: Start, program: Any) -> Any:
  """The state before the first update: each array is read right onto the devices that hold it.

  Args:
    start: from `find`.
    program: of the run, see `update.build`.

  Raises:
    IntegrityError: the checkpoint is damaged.
  """
  like = program.abstract.params
  wanted = unstack(like)
  match = start.match
  with checkpoint.Checkpoints(start.folder) as checkpoints:
    asked = {there: wanted[name] for name, there in match.taken.items()}
    read = checkpoints.restore(asked, start.step, under=start.under)
  flat = {name: read[there] for name, there in match.taken.items()}
  if match.new:

    def initial():
      """Of the whole initialization, XLA keeps what these arrays need."""
      layers = unstack(program.init().params)
      return {name: layers[name] for name in match.new}

    places = {name: wanted[name].sharding for name in match.new}
    flat |= jax.jit(initial, out_shardings=places)()
  return program.begin(restack(flat, like))


def same_words(init_from: InitFrom, workdir: Path) -> None:
  """UserError where a run reads its data in other vocabularies than the one it starts from."""
  runs = Path(init_from.run), Path(workdir)
  if not all((run / WORDS / vocabulary.FILE).is_file() for run in runs):
    return  # one of them reads no text
  theirs, ours = (vocabulary.read(run / WORDS) for run in runs)
  if theirs != ours:
    raise UserError(
      f"the data is not in the vocabulary of init_from.run={init_from.run}, so that its parameters "
      f"would stand for other tokens; give the data the tokenizer data.FromRun({init_from.run!r})."
    )
  theirs, ours = map(_source_words, runs)
  if theirs != ours:
    raise UserError(
      f"the sources are not in the source vocabulary of init_from.run={init_from.run}, so that its "
      "parameters would stand for other tokens; give the data the source tokenizer of that run."
    )


def _source_words(run: Path) -> Any:
  """Of a run's sources; the one that it shares where they have none of their own."""
  own = run / SOURCE_WORDS
  return vocabulary.read(own if (own / vocabulary.FILE).is_file() else run / WORDS)


def _chosen(init_from: InitFrom, checkpoints: checkpoint.Checkpoints) -> int:
  """The step that is asked for, the newest where none is."""
  newest = checkpoints.chosen(init_from.step)
  measure = init_from.lowest or init_from.highest
  if measure is None:
    return newest
  steps, scores = checkpoints.steps.all(), read_scores(checkpoints.folder / SCORES)
  values = {step: scores.get(step, {}).get(measure, math.nan) for step in steps}
  values = {step: value for step, value in values.items() if math.isfinite(value)}
  if not values:
    measured = sorted({name for step in steps for name in scores.get(step, {})})
    raise UserError(
      f"no checkpoint in {checkpoints.folder} was measured by {measure!r}; those of steps "
      f"{', '.join(map(str, steps))} were measured by {', '.join(measured) or 'nothing'}."
    )
  return (min if init_from.lowest else max)(values, key=values.get)
