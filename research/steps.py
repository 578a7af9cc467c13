"""A folder of numbered steps: how a step comes to be in it whole, stays, is set aside and goes.

A step is written beside its name and gets it by one rename, once all of it has reached the disk. It
loses it by one rename too, before it is taken apart: no half of a step is ever seen.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from research import disk
from research.errors import IntegrityError, UserError
from research.retention import Keep, read_scores, write_scores

DRAFT, TRASH, QUARANTINE = ".saving", ".trash", "quarantine"
SCORES, PINNED, INVENTORY = "scores.json", "pinned", "files.json"
SMALL = 2**20  # bytes of a file up to which its content is compared, not only its size


class Steps:
  """The steps in a folder. Of the processes of a job only the first changes it."""

  def __init__(self, folder: Path, keep: Keep):
    """Opens `folder`, in which `keep` says what stays."""
    self.folder, self.keep = Path(folder).absolute(), keep
    self._scores = read_scores(self.folder / SCORES)

  def all(self) -> list[int]:
    """Their numbers, ascending."""
    if not self.folder.is_dir():
      return []
    names = [path.name for path in self.folder.iterdir() if path.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)

  def path(self, step: int) -> Path:
    """Where a step is, or would be."""
    return self.folder / str(step)

  def draft(self, step: int) -> Path:
    """Where a step is to be written until it is whole."""
    return self.folder / f"{DRAFT}-{step}"

  def make_room(self, need: int) -> None:
    """Takes apart what is no step, and looks whether `need` bytes can be written.

    Raises:
      OSError: they cannot.
    """
    self.folder.mkdir(parents=True, exist_ok=True)
    for path in self.folder.glob(f"{DRAFT}-*"):
      self._discard(path)  # threads of a save that failed may still write into it
    self.empty_trash()
    free = shutil.disk_usage(self.folder).free
    if free < need:
      raise OSError(
        errno.ENOSPC, f"it takes {need / 1e6:,.1f} MB, and the disk has {free / 1e6:,.1f} MB left"
      )

  def empty_trash(self) -> None:
    """Deletes what was taken apart, once the disk knows that it is no step any more."""
    trash = self.folder / TRASH
    with contextlib.suppress(OSError):  # it stays until a disk can be written
      if trash.is_dir():
        disk.sync(self.folder)
        shutil.rmtree(trash)

  def commit(self, step: int) -> None:
    """Makes a step of its draft, and removes the steps that need not be kept any longer."""
    draft = self.draft(step)
    disk.replace(draft / INVENTORY, json.dumps(_inventory(draft)))
    for path in [*draft.rglob("*"), draft]:
      disk.sync(path)
    if self.path(step).exists():
      self._discard(self.path(step))
    draft.rename(self.path(step))
    disk.sync(self.folder)
    steps = self.all()
    pinned = [number for number in steps if self.pinned(number)]
    for number in {*steps} - self.keep.chosen(steps, self._scores, pinned):
      self._discard(self.path(number))

  def check(self, step: int) -> None:
    """Compares a step's files with what they were when it was committed.

    Raises:
      ValueError: the first that is missing or another; OSError where it cannot be read.
    """
    written = json.loads((self.path(step) / INVENTORY).read_text(encoding="utf-8"))
    here = _inventory(self.path(step))
    for name, (size, digest) in written.items():
      if name not in here:
        raise ValueError(f"{name} is missing")
      if here[name] != [size, digest]:
        what = "it is damaged" if here[name][0] == size else f"{here[name][0]} of {size} bytes"
        raise ValueError(f"{name} is not what was written: {what}")

  def quarantine(self, step: int, reason: str) -> None:
    """Sets a damaged step aside, where nothing looks for it and nothing deletes it; says so.

    Raises:
      IntegrityError: the disk does not let it.
    """
    place = self.folder / QUARANTINE
    try:
      place.mkdir(exist_ok=True)
      aside = self.path(step).rename(_free(place, str(step)))
    except OSError as error:
      raise IntegrityError(
        f"{reason} It cannot be moved to {place}: {error.strerror}; mend the disk, or move it away."
      ) from error
    print(f"warning: {reason} It is in {QUARANTINE}/{aside.name} now.", file=sys.stderr)

  def scored(self, step: int, values: Mapping[str, float]) -> None:
    """Remembers what a step scored ("evaluation.measure" -> value), for `Keep` to choose by."""
    self._scores.setdefault(step, {}).update(values)
    if self.folder.is_dir():
      write_scores(self.folder / SCORES, self._scores)

  def pinned(self, step: int) -> bool:
    """Whether a step was pinned."""
    return (self.path(step) / PINNED).exists()

  def pin(self, step: int, *, pinned: bool) -> None:
    """Keeps a step whatever comes after it, or no longer.

    Raises:
      UserError: the folder cannot be written.
    """
    mark = self.path(step) / PINNED
    try:
      mark.touch() if pinned else mark.unlink(missing_ok=True)
    except OSError as error:
      raise UserError(f"{mark} cannot be written: {error.strerror}.") from error

  def _discard(self, path: Path) -> None:
    """Moves what is there into the trash."""
    trash = self.folder / TRASH
    trash.mkdir(exist_ok=True)
    path.rename(_free(trash, path.name))


def _free(folder: Path, name: str) -> Path:
  """The first of name-0, name-1, ... that is not there yet."""
  return next(p for i in itertools.count() if not (p := folder / f"{name}-{i}").exists())


def _inventory(folder: Path) -> dict[str, list[int | str]]:
  """Size of each file in a folder, and the digest of a small one."""
  files = {}
  for path in sorted(folder.rglob("*")):
    name, size = path.relative_to(folder).as_posix(), path.stat().st_size
    if path.is_file() and name not in (INVENTORY, PINNED):
      small = size <= SMALL
      digest = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest() if small else ""
      files[name] = [size, digest]
  return files
