"""Checkpoints: the state under plain names, one layer at a time, restored strictly.

With every step stands what its arrays were when it was saved: names, dtypes, shapes, fingerprints.
What does not match them is damaged, and is moved to `quarantine` beside the steps.
"""

from __future__ import annotations

import contextlib
import errno
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from research import distributed
from research.array_files import ArrayFiles, reason, words_of
from research.errors import IntegrityError, RunError, UserError
from research.fingerprint import Manifest, fingerprints, manifest, read_manifest
from research.retention import Keep
from research.stacking import restack, unstack
from research.steps import QUARANTINE, Steps

FOLDER = "checkpoints"  # of a run
TRIES = 3  # saves that may fail in a row
# The system has no file or memory left, or another hand on them: the files may be whole.
PASSING = {errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE}


class Checkpoints:
  """The checkpoints of a run: `save` returns before the files are written, `close` waits.

  Attributes:
    steps: those that are there.
    failures: saves that failed one after the other.
    saving: a step of which it is not known yet how its save ended.
  """

  def __init__(
    self, folder: Path, keep: Keep | None = None, about: Mapping[str, str] | None = None
  ):
    """Opens `folder`.

    Args:
      folder: of the checkpoints.
      keep: which of them are not deleted when others are saved.
      about: what the arrays came from, for example the data's fingerprint; saved with each step.
    """
    self.steps, self.about = Steps(folder, keep or Keep()), dict(about or {})
    self.folder = self.steps.folder
    self.failures = 0
    self.saving: int | None = None
    self._newest: int | None = None
    self._fingerprints = jax.jit(fingerprints)
    self._files = ArrayFiles()

  def __enter__(self) -> Checkpoints:
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
    """Waits for the last save. An error that ends the block stands, whatever becomes of the save;
    where it may mean that another process is gone, nothing is waited for."""
    if kind is None:
      self.close()
    elif jax.process_count() == 1:
      with contextlib.suppress(Exception):
        self._settle()
        self._files.close()

  def latest(self) -> int | None:
    """The newest step, or None when nothing was saved."""
    return max(self.steps.all(), default=None)

  def chosen(self, step: int | None) -> int:
    """`step`, the newest where it is None; UserError where there is no such checkpoint."""
    steps = self.steps.all()
    step = max(steps, default=None) if step is None else step
    if step not in steps:
      raise UserError(
        f"{self.folder} has no checkpoint{'' if step is None else f' of step {step}'}; "
        f"it has {', '.join(map(str, steps)) or 'none'}."
      )
    return step

  def has(self, step: int) -> bool:
    """Whether `step` was restored, saved or is being saved; the same on all processes."""
    return self._newest == step

  def save(self, step: int, state: Any) -> None:
    """Begins to write `state`; donating its arrays is safe once this returns.

    A save that fails is told, and `owed`. After three in a row the run has to end.

    Raises:
      IntegrityError: the third failure.
    """
    self.wait()
    flat = unstack(state)
    try:
      if distributed.first():
        self.steps.make_room(sum(x.size * jnp.dtype(x.dtype).itemsize for x in flat.values()))
      about = {**self.about, "step": str(step)}
      contents = manifest(flat, jax.device_get(self._fingerprints(flat)), about)
      self.saving = self._newest = step
      self._files.write(self.steps.draft(step), flat, contents)
    except Exception as error:
      self._failed(error)

  def scored(self, step: int, values: Mapping[str, float]) -> None:
    """Remembers what a step scored ("evaluation.measure" -> value), for `Keep` to choose by."""
    if distributed.first():
      self.steps.scored(step, values)

  def owed(self) -> bool:
    """Whether the last save has failed, so that the next step is to be saved."""
    if self.saving is not None and self._written():
      self.wait()
    return self.failures > 0 and self.saving is None

  def wait(self) -> None:
    """Waits for the last save; one that fails is told."""
    try:
      self._settle()
    except Exception as error:
      self._failed(error)

  def restore_newest(self, like: Any) -> tuple[int, Any] | None:
    """(step, state) of the newest step that is whole, None where nothing was ever saved.

    Damaged ones are moved into `quarantine`, with a line for each, and never deleted.

    Raises:
      UserError: the checkpoint is of another model.
      IntegrityError: none is whole.
      RunError: what is lacking now, such as memory, lets none be read; nothing is moved.
    """
    reasons = []
    # The first process says which: only it knows at once that a save has become a step.
    while (step := distributed.agreed(max(self.steps.all(), default=-1))) >= 0:
      try:
        state = self.restore(like, step)
        self._newest = step
        return step, state
      except IntegrityError as error:
        reasons.append(str(error))
        with distributed.together("moving a damaged checkpoint"):
          if distributed.first():
            self.steps.quarantine(step, str(error))
    if reasons:
      raise IntegrityError(
        f"no checkpoint in {self.folder} is whole ({len(reasons)} moved to {QUARANTINE}); put one "
        "back from a copy, or start anew with another --workdir."
      )
    return None

  def restore(self, like: Any, step: int | None = None, under: str = "") -> Any:
    """The state at `step` (the newest by default), on the devices that `like` names.

    Args:
      like: a tree of `jax.ShapeDtypeStruct` with shardings.
      step: which checkpoint.
      under: the part of the stored state that `like` stands for, for example "params".

    Raises:
      UserError: no such step, or arrays whose names, shapes or dtypes differ (the first are told).
      IntegrityError: files are missing or damaged.
      RunError: what is lacking now, such as memory, does not let them be read.
    """
    wanted = unstack(like if not under else {under: like})
    with distributed.together("reading a checkpoint"):
      # A list of names may be seconds old on a network, a name that is asked for is not.
      if step is None or not self.steps.path(step).is_dir():
        step = self.chosen(step)
      stored, about = self.stored(step)
      self._check(wanted, {k: v for k, v in stored.items() if not under or k in wanted}, step)
      self._check_data(about, step)
      try:
        restored = self._files.read(self.steps.path(step), wanted, partial=bool(under))
      except Exception as error:
        raise self._unreadable(step, error) from error
    try:
      found = jax.device_get(self._fingerprints(restored))
    except Exception as error:
      if _is_passing(error):
        raise self._unreadable(step, error) from error
      raise
    wrong = [name for name in wanted if stored[name].fingerprint != int(found[name])]
    if wrong:
      more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
      raise self._unreadable(step, f"{wrong[0]}{more} is not what was saved")
    tree = restack(restored, {under: like} if under else like)
    return tree[under] if under else tree

  def stored(self, step: int) -> Manifest:
    """What was saved at `step`: names, dtypes, shapes, fingerprints, and what they came from.

    Raises:
      IntegrityError: files are missing or damaged.
    """
    try:
      self.steps.check(step)
      found = read_manifest(words_of(self.steps.path(step)))
    except Exception as error:
      raise self._unreadable(step, error) from error
    if found.about["step"] != str(step):
      raise self._unreadable(step, f"it is of step {found.about['step']}")
    return found

  def arrays(self, step: int, under: str) -> dict[str, jax.Array]:
    """All that was saved under a part of the state, for example "params", by name on one device.

    Raises:
      UserError: no such step.
      IntegrityError: files are missing or damaged.
    """
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = {
      name.removeprefix(f"{under}/"): jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
      for name, x in self.stored(self.chosen(step)).arrays.items()
      if name.startswith(f"{under}/")
    }
    return unstack(self.restore(like, step, under=under))

  def close(self) -> None:
    """Waits for the last save; what it has replaced is gone then.

    Raises:
      IntegrityError: it failed.
    """
    try:
      self._settle()
      self._files.close()
    except Exception as error:
      raise IntegrityError(
        f"the last checkpoint could not be written to {self.folder}: {reason(error)}."
      ) from error
    if self._newest is not None and distributed.first():  # who only reads leaves all as it is
      self.steps.empty_trash()
    if self.failures:
      raise IntegrityError(f"the last checkpoint could not be written to {self.folder}.")

  def _written(self) -> bool:
    """Whether the files of the last save are there, or never will be."""
    try:
      self._files.check()
    except Exception as error:
      self._failed(error)
    return self.saving is not None and self.steps.draft(self.saving).exists()

  def _settle(self) -> None:
    """Waits until it is known how the last save ended, and makes a step of it."""
    self._files.wait()
    if self.saving is not None:
      if distributed.first():
        self.steps.commit(self.saving)
      self.failures, self.saving = 0, None

  def _failed(self, error: Exception) -> None:
    self.failures, self.saving, self._newest = self.failures + 1, None, None
    told = f"a checkpoint could not be written to {self.folder}: {reason(error)}"
    if distributed.several():  # which others need not know of: all start again
      raise RunError(told) from error
    self._files.renew()
    if self.failures == TRIES:
      raise IntegrityError(f"{told}; that was the {TRIES}rd time in a row.") from error
    print(f"warning: {told}; the next step is saved instead", file=sys.stderr)

  def _unreadable(self, step: int, cause: Any) -> RunError:
    """An IntegrityError, but where the cause says nothing about the files."""
    path = self.steps.path(step)
    if _is_passing(cause):
      return RunError(
        f"{path} cannot be read now: {reason(cause)}; nothing was moved; the same command tries "
        "again."
      )
    return IntegrityError(f"{path} is damaged: {reason(cause)}.")

  def _check(self, wanted: dict[str, Any], stored: dict[str, Any], step: int) -> None:
    """Orbax casts dtypes and ignores what is absent; we compare first, and say what differs."""
    wrong = [f"{name} is missing" for name in wanted if name not in stored]
    wrong += [f"{name} is not of this model" for name in stored if name not in wanted]
    wrong += [
      f"{name} is {_say(stored[name])}, wanted {_say(leaf)}"
      for name, leaf in wanted.items()
      if name in stored
      and (stored[name].shape, stored[name].dtype) != (leaf.shape, jnp.dtype(leaf.dtype).name)
    ]
    if wrong:
      raise UserError(
        f"{self.folder}/{step} is a checkpoint of another model: {'; '.join(wrong[:3])}"
        f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}; "
        "use the experiment that wrote it, or another --workdir."
      )

  def _check_data(self, about: Mapping[str, str], step: int) -> None:
    """The data's order is a function of the step: on other data it would go on somewhere else."""
    saved, here = about.get("data"), self.about.get("data")
    if saved and here and saved != here:
      raise UserError(
        f"the data has changed since {self.folder}/{step} was saved (its fingerprint was {saved}, "
        f"is {here}); bring back what it was, or start anew with another --workdir."
      )


def of_run(workdir: Path) -> Checkpoints:
  """Those of a run, to be read; UserError where it has none."""
  checkpoints = Checkpoints(Path(workdir) / FOLDER)
  if not checkpoints.steps.all():
    raise UserError(f"{workdir} has no checkpoint yet; run the experiment first.")
  return checkpoints


def _is_passing(cause: Any) -> bool:
  """Whether a failed read says nothing about the files; TensorStore gives the system's number."""
  told = re.search(r"os_error_code='(\d+)'", str(cause))
  number = int(told.group(1)) if told else getattr(cause, "errno", None)
  lacking = isinstance(cause, MemoryError | PermissionError) or "RESOURCE_EXHAUSTED" in str(cause)
  return lacking or number in PASSING


def _say(leaf: Any) -> str:
  return f"{jnp.dtype(leaf.dtype).name}{list(leaf.shape)}"
