"""The vectors of the pictures in a folder, encoded once and kept in the cache."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import warnings
from pathlib import Path

import numpy as np

from research.data import cache, progress
from research.data.images import ENDINGS, Unreadable, in_folder
from research.data.paths import reach
from research.errors import UserError
from research.retrieve.towers import Towers

FORMAT = 2  # raise it whenever the files of the cache change
AT_ONCE = 256  # pictures that are decoded before they are encoded


@dataclasses.dataclass(frozen=True)
class Index:
  """Pictures with their vectors.

  Attributes:
    home: the folder.
    names: of the pictures, in it.
    vectors_NE: unit vectors, float32.
    broken: what could not be read, and why.
  """

  home: Path
  names: list[str]
  vectors_NE: np.ndarray
  broken: dict[str, str]


def of_folder(towers: Towers, folder: str | os.PathLike[str]) -> Index:
  """The index of all pictures in a folder and the folders in it, made where there is none.

  It is another one for every checkpoint and folder, and whenever a picture is added, removed or
  changed (by its size and dates).

  Args:
    towers: encode them.
    folder: that they lie in; it may lead through a zip or tar.

  Raises:
    UserError: there is no picture, or none that can be read.
  """
  home = reach(folder)
  home, names = (home.parent, [home.name]) if home.is_file() else (home, pictures_in(home))
  stamps = [(home / name).stat() for name in names]
  key = cache.key(
    FORMAT,
    towers.fingerprint(),
    str(home.resolve()),
    [(name, x.st_size, x.st_mtime_ns, x.st_ctime_ns) for name, x in zip(names, stamps)],
  )
  made = cache.folder("indices", key, lambda place: _write(towers, home, names, place))
  said = json.loads((made / "names.json").read_text(encoding="utf-8"))
  return Index(home, said["names"], np.load(made / "vectors.npy"), said["broken"])


def pictures_in(home: Path) -> list[str]:
  """Their names, in order.

  Raises:
    UserError: there are none, or there is no folder.
  """
  if not home.is_dir():
    raise UserError(f"--images {home} is no folder; give one with pictures.")
  names = in_folder(home)
  if not names:
    known = ", ".join(ENDINGS)
    raise UserError(f"--images {home} holds no pictures; their names end in {known}.")
  return names


def _write(towers: Towers, home: Path, names: list[str], place: Path) -> None:
  def one(name: str) -> np.ndarray | str:
    try:
      return towers.picture(home / name)
    except (Unreadable, UserError) as error:
      return str(error)

  kept, vectors, broken = [], [], {}
  with (
    warnings.catch_warnings(action="ignore"),  # Pillow's, on what is odd in a file
    progress.line(f"encoding {len(names):,} pictures") as show,
    concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads,
  ):
    parts = [names[i : i + AT_ONCE] for i in range(0, len(names), AT_ONCE)]
    for part in show(parts):
      read = list(zip(part, threads.map(one, part)))
      broken |= {name: why for name, why in read if isinstance(why, str)}
      good = [(name, picture) for name, picture in read if not isinstance(picture, str)]
      if good:
        kept += [name for name, _ in good]
        vectors.append(towers.encoder.images(np.stack([picture for _, picture in good])))
  if not kept:
    name, why = next(iter(broken.items()))
    raise UserError(f"none of the {len(names)} pictures in {home} can be read ({name}: {why}).")
  np.save(place / "vectors.npy", np.concatenate(vectors), allow_pickle=False)
  said = json.dumps({"names": kept, "broken": broken})
  (place / "names.json").write_text(said, encoding="utf-8")
