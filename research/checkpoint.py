"""Checkpoints on Orbax: the state under plain names, one layer at a time, restored strictly.

With every step stands what its arrays were when it was saved: names, dtypes, shapes, fingerprints.
What does not match them is damaged, and is moved to `quarantine` beside the steps.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from research import distributed
from research.errors import IntegrityError, RunError, UserError
from research.fingerprint import Stored, fingerprints, manifest, read_manifest
from research.stacking import restack, unstack

TRASH, QUARANTINE = ".trash", "quarantine"  # in the folder of the checkpoints
TRIES = 3  # saves that may fail in a row


class Checkpoints:
  """The checkpoints of a run: `save` returns before the files are written, `close` waits."""

  def __init__(self, folder: Path, keep: int | None = None):
    """Opens `folder`: to write, where `keep` says how many of the newest stay, or to read."""
    self.folder, self.keep = Path(folder).absolute(), keep
    self.failures = 0  # saves that failed one after the other
    self._unsure = False  # a save was begun, of which it is not known yet how it ended
    self._fingerprints = jax.jit(fingerprints)
    self.manager = self._open()

  def _open(self) -> ocp.CheckpointManager:
    writing = self.keep is not None
    options = ocp.CheckpointManagerOptions(
      max_to_keep=self.keep,
      create=writing,
      step_prefix=None,
      # A step is deleted by one rename: Orbax would take it apart while it is still listed.
      todelete_subdir=TRASH,
      lightweight_initialize=True,  # otherwise one damaged step keeps the others from being opened
      cleanup_tmp_directories=writing,
      # Made in the background, a folder that the disk refuses is waited for, for 300 seconds.
      async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
    )
    return ocp.CheckpointManager(
      self.folder, options=options, item_handlers=ocp.PyTreeCheckpointHandler()
    )

  def __enter__(self) -> Checkpoints:
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
    """Waits for the last save, unless an error may mean that another process is gone."""
    if kind is None or jax.process_count() == 1:
      self.close()

  def latest(self) -> int | None:
    """The newest step, or None when nothing was saved."""
    return self.manager.latest_step()

  def save(self, step: int, state: Any) -> None:
    """Begins to write `state`; donating its arrays is safe once this returns.

    A save that fails is told, and `owed`. After three in a row the run has to end.

    Raises:
      IntegrityError: the third failure.
    """
    try:
      self._settle()
    except Exception as error:
      self._failed(error)
    flat = unstack(state)
    try:
      self._empty_trash()
      args = ocp.args.PyTreeSave(_nested(flat))
      contents = manifest(flat, jax.device_get(self._fingerprints(flat)))
      self.manager.save(step, args=args, custom_metadata=contents, force=True)
    except Exception as error:
      self._failed(error)
    else:
      self._unsure = True

  def owed(self) -> bool:
    """Whether the last save has failed, so that the next step is to be saved."""
    if self._unsure and not self.manager.is_saving_in_progress():
      try:
        self._settle()
      except Exception as error:
        self._failed(error)
    return self.failures > 0 and not self._unsure

  def restore_newest(self, like: Any) -> tuple[int, Any] | None:
    """(step, state) of the newest step that is whole, None where nothing was ever saved.

    Damaged ones are moved into `quarantine`, with a line for each, and never deleted.

    Raises:
      UserError: the checkpoint is of another model.
      IntegrityError: none is whole.
    """
    reasons = []
    for step in sorted(self.manager.all_steps(), reverse=True):
      try:
        return step, self.restore(like, step)
      except IntegrityError as error:
        reasons.append(str(error))
        self._quarantine(step, str(error))
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
    """
    steps = self.manager.all_steps()
    step = self.manager.latest_step() if step is None else step
    if step is None or step not in steps:
      raise UserError(
        f"{self.folder} has no checkpoint{'' if step is None else f' of step {step}'}; "
        f"it has {', '.join(map(str, sorted(steps))) or 'none'}."
      )
    wanted = unstack(like if not under else {under: like})
    with distributed.together("reading a checkpoint"):
      stored = self._stored(step)
      self._check(wanted, {k: v for k, v in stored.items() if not under or k in wanted}, step)
      try:
        restored = self._read(wanted, step, partial=bool(under))
      except Exception as error:
        raise self._damage(step, error) from error
    found = jax.device_get(self._fingerprints(restored))
    wrong = [name for name in wanted if stored[name].fingerprint not in (None, int(found[name]))]
    if wrong:
      more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
      raise self._damage(step, f"{wrong[0]}{more} is not what was saved")
    tree = restack(restored, {under: like} if under else like)
    return tree[under] if under else tree

  def close(self) -> None:
    """Waits for the last save.

    Raises:
      IntegrityError: it failed.
    """
    try:
      self._settle()
      self.manager.close()
    except Exception as error:
      raise IntegrityError(
        f"the last checkpoint could not be written to {self.folder}: {_first_line(error)}."
      ) from error
    if self.failures:
      raise IntegrityError(f"the last checkpoint could not be written to {self.folder}.")

  def _settle(self) -> None:
    """Waits until it is known how the save before ended."""
    self.manager.wait_until_finished()
    if self._unsure:
      self.failures, self._unsure = 0, False

  def _failed(self, error: Exception) -> None:
    self.failures, self._unsure = self.failures + 1, False
    told = f"a checkpoint could not be written to {self.folder}: {_first_line(error)}"
    if distributed.several():  # which others need not know of: all start again
      raise RunError(told) from error
    if self.failures == TRIES:
      raise IntegrityError(f"{told}; that was the {TRIES}rd time in a row.") from error
    print(f"warning: {told}; the next step is saved instead", file=sys.stderr)
    # Orbax counts a step as saved whose save failed; a new manager looks at the files.
    self.manager = self._open()

  def _empty_trash(self) -> None:
    if distributed.first():
      shutil.rmtree(self.folder / TRASH, ignore_errors=True)

  def _quarantine(self, step: int, reason: str) -> None:
    with distributed.together("moving a damaged checkpoint"):
      if distributed.first():
        place = self.folder / QUARANTINE
        place.mkdir(exist_ok=True)
        name = next(n for i in range(10**6) if not (place / (n := f"{step}-{i}")).exists())
        (self.folder / str(step)).rename(place / name)
        print(f"warning: {reason} It is in {QUARANTINE}/{name} now.", file=sys.stderr)
    self.manager.reload()

  def _damage(self, step: int, reason: Any) -> IntegrityError:
    return IntegrityError(f"{self.folder}/{step} is damaged: {_first_line(reason)}.")

  def _stored(self, step: int) -> dict[str, Any]:
    """Name -> what was saved under it, from the manifest."""
    path = self.folder / str(step) / "_CHECKPOINT_METADATA"
    try:
      contents = json.loads(path.read_text(encoding="utf-8"))["custom_metadata"]
      if contents:
        return read_manifest(contents)
      saved = _flat(self.manager.item_metadata(step))  # from before there were manifests
      return {
        name: Stored(jnp.dtype(x.dtype).name, tuple(x.shape), None) for name, x in saved.items()
      }
    except Exception as error:
      raise self._damage(step, error) from error

  def _read(self, wanted: dict[str, Any], step: int, partial: bool) -> dict[str, Any]:
    places = {
      name: ocp.ArrayRestoreArgs(sharding=x.sharding, global_shape=x.shape, dtype=x.dtype)
      for name, x in wanted.items()
    }
    args = ocp.args.PyTreeRestore(
      item=_nested(wanted), restore_args=_nested(places), partial_restore=partial
    )
    return _flat(self.manager.restore(step, args=args))

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


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
  tree: dict[str, Any] = {}
  for name, leaf in flat.items():
    *folders, last = name.split("/")
    node = tree
    for folder in folders:
      node = node.setdefault(folder, {})
    node[last] = leaf
  return tree


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
  tree = getattr(tree, "tree", tree) if not isinstance(tree, dict) else tree
  flat = {}
  for key, value in tree.items():
    name = f"{prefix}{key}"
    flat.update(_flat(value, f"{name}/") if isinstance(value, dict) else {name: value})
  return flat


def _say(leaf: Any) -> str:
  return f"{jnp.dtype(leaf.dtype).name}{list(leaf.shape)}"


def _first_line(error: Any) -> str:
  return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
