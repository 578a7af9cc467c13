"""What the children do to a folder of checkpoints while calls are counted."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import steps

if TYPE_CHECKING:
  from .children import Fault

OLD, GOOD, BAD, NEXT, AFTER = 2, 3, 4, 5, 6  # the steps: to be deleted, whole, damaged, to come


def prepare(folder: Path) -> None:
  """A folder in which a run has everything to do.

  A step to restore, a damaged one to quarantine before, one to delete, one in the trash, and what
  a save left that was cut off.
  """
  steps.save(folder, [OLD - 1, OLD, GOOD], newest=2)
  steps.save(folder, [BAD], newest=3)
  data = max((folder / str(BAD) / "d").iterdir(), key=lambda p: p.stat().st_size)
  os.truncate(data, data.stat().st_size // 2)
  shutil.copytree(folder / str(OLD), folder / ".trash" / str(OLD - 1), dirs_exist_ok=True)
  shutil.copytree(folder / str(OLD), folder / f".saving-{NEXT}")


def save(folder: Path, fault: Fault, newest: int = 2) -> int:
  """One run: opens, quarantines, restores, saves, deletes. Returns the number of points."""
  fault.arm()
  checkpoints = steps.opened(folder, newest)
  checkpoints.restore_newest(steps.like())
  checkpoints.save(NEXT, steps.state(NEXT))
  checkpoints.steps.scored(NEXT, {"heldout.loss": 1.0})
  checkpoints.close()
  return fault.disarm()


def save_the_only_one(folder: Path, fault: Fault) -> int:
  """The same, where the step before goes as well."""
  return save(folder, fault, newest=1)


def go_on(folder: Path, fault: Fault) -> dict[str, Any]:
  """A run to which the disk refuses something, and that saves once more when it is freed.

  Leaves what it was before that as `meanwhile`, beside the folder.

  Returns:
    "error", with which a run would have ended, or nothing; "seconds" until it was known whether
    the save had come to anything; "meanwhile", the steps that were listed then.
  """
  from research.errors import RunError

  error, checkpoints, start = "", None, time.monotonic()
  fault.arm()
  try:
    checkpoints = steps.opened(folder)
    checkpoints.restore_newest(steps.like())
    checkpoints.save(NEXT, steps.state(NEXT))
    while not checkpoints.owed() and checkpoints.saving is not None:
      time.sleep(0.01)
    checkpoints.steps.scored(NEXT, {"heldout.loss": 1.0})
  except RunError as ended:
    error = str(ended)
  seconds = time.monotonic() - start
  fault.disarm()
  listed = steps.listed(folder)
  unfinished = shutil.ignore_patterns(".saving-*")  # Orbax may be deleting it
  shutil.copytree(folder, folder.with_name("meanwhile"), ignore=unfinished)
  if error:  # what follows is another run
    checkpoints = steps.opened(folder)
    checkpoints.restore_newest(steps.like())
  checkpoints.save(AFTER, steps.state(AFTER))
  checkpoints.close()
  return {"error": error, "seconds": seconds, "meanwhile": listed}
