"""Whether a folder of checkpoints is as it should be after something went wrong in it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection
from pathlib import Path

from . import steps

# What may lie in a folder of checkpoints, beside two steps.
BESIDE = {".trash", "quarantine", "scores.json"}


def problem(folder: Path, newest: Collection[int], damaged: Collection[int] = ()) -> str:
  """What is wrong with the folder, for the next run that opens it; nothing if all is well.

  It restores the newest step, then every other that is listed, saves another one, and looks at
  what remains.

  Args:
    folder: of the checkpoints.
    newest: the steps of which one has to be restored, with its very arrays.
    damaged: those that may be listed and cannot be restored.
  """
  try:
    with contextlib.redirect_stderr(io.StringIO()):
      return _problem(folder, newest, damaged)
  except Exception as error:
    return f"the next run ends with {type(error).__name__}: {error}"


def _problem(folder: Path, newest: Collection[int], damaged: Collection[int]) -> str:
  with steps.opened(folder) as checkpoints:
    restored = checkpoints.restore_newest(steps.like())
    if restored is None:
      return "nothing is restored"
    found, state = restored
    if found not in newest:
      return f"step {found} is restored, none of {sorted(newest)}"
    if not steps.same(state, steps.state(found)):
      return f"step {found} is not what was saved"
    for step in set(steps.listed(folder)) - {found, *damaged}:
      if not steps.same(checkpoints.restore(steps.like(), step), steps.state(step)):
        return f"step {step} is listed, and is not what was saved"
    checkpoints.save(found + 10, steps.state(found + 10))
    checkpoints.steps.scored(found + 10, {"heldout.loss": 1.0})
  with steps.opened(folder) as checkpoints:
    restored = checkpoints.restore_newest(steps.like())
  if restored is None or not steps.same(restored[1], steps.state(found + 10)):
    return "the next save comes to nothing"
  return _left_over(folder, found)


def _left_over(folder: Path, found: int) -> str:
  names = {path.name for path in folder.iterdir()}
  wanted = {str(found), str(found + 10)}
  if names - BESIDE != wanted:
    return f"after the next save there are {sorted(names - BESIDE)}, not {sorted(wanted)}"
  quarantined = sorted(path.name for path in folder.glob("quarantine/*"))
  if any(not name.endswith("-0") for name in quarantined):
    return f"a step was damaged, and damaged again: {quarantined}"
  return ""
