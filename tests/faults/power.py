"""What a loss of power leaves of a folder, from the calls that were made and what was fsynced."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path


@dataclasses.dataclass(eq=False)
class File:
  """`flushed` says whether its content is on the disk."""

  flushed: bool = True


@dataclasses.dataclass(eq=False)
class Folder:
  """What it holds, and what of that its list of names on the disk says."""

  names: dict[str, File | Folder] = dataclasses.field(default_factory=dict)
  flushed: dict[str, File | Folder] = dataclasses.field(default_factory=dict)


Names = Callable[[Folder], dict[str, "File | Folder"]]


def _both(folder: Folder) -> dict[str, File | Folder]:
  return {name: x for name, x in folder.names.items() if folder.flushed.get(name) is x}


# What becomes of the names that were given and taken since a folder was last flushed. A journal
# keeps them in order; POSIX promises nothing.
LOSSES: dict[str, Names] = {
  "names stay": lambda folder: folder.names,
  "names are as they were": lambda folder: folder.flushed,
  "new names are lost, old ones too": _both,
}


def lose(before: Path, calls: Iterable[tuple[str, str, str]], now: Path, after: Path, names: Names):
  """Makes `after`, what is left of `now`.

  Args:
    before: as the folder was before the calls, all of it on the disk.
    calls: (name, path, other path), as `children` logs them; the paths lie in `now`.
    now: the folder as the calls have left it.
    after: a folder to make.
    names: which of a folder's names are left; the content of files that was not flushed is not.
  """
  root = _read(before)
  for call in calls:
    _apply(root, now, *call)
  places: dict[File | Folder, Path] = {}
  _locate(root, now, places)
  _write(root, after, names, places)


def _read(path: Path) -> File | Folder:
  if path.is_file():
    return File()
  found = {child.name: _read(child) for child in path.iterdir()}
  return Folder(found, dict(found))


def _apply(root: Folder, base: Path, call: str, one: str, two: str) -> None:
  path = Path(one).relative_to(base)
  if call == "fsync":
    node = _find(root, path)
    if isinstance(node, Folder):
      node.flushed = dict(node.names)
    else:
      node.flushed = True
    return
  parent = _find(root, path.parent)
  if call == "mkdir":
    parent.names[path.name] = Folder()
  elif call in ("create", "truncate", "write"):
    changed = parent.names.setdefault(path.name, File())
    changed.flushed = changed.flushed and call == "create"
  elif call in ("unlink", "rmdir"):
    del parent.names[path.name]
  elif call == "rename":
    other = Path(two).relative_to(base)
    _find(root, other.parent).names[other.name] = parent.names.pop(path.name)


def _find(root: Folder, path: Path) -> File | Folder:
  for name in path.parts:
    root = root.names[name]
  return root


def _locate(node: File | Folder, path: Path, places: dict[File | Folder, Path]) -> None:
  places[node] = path
  if isinstance(node, Folder):
    for name, child in node.names.items():
      _locate(child, path / name, places)


def _write(node: File | Folder, path: Path, names: Names, places: dict) -> None:
  """What is no longer anywhere, deleted for good, is not written."""
  if node not in places:
    return
  if isinstance(node, Folder):
    path.mkdir()
    for name, child in names(node).items():
      _write(child, path / name, names, places)
  elif node.flushed:
    shutil.copyfile(places[node], path)
  else:
    path.touch()
