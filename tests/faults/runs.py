"""What a run folder tells: its final arrays, the batches that it took, what is unfinished."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import steps


def newest(workdir: Path) -> int | None:
  """The last step that has a checkpoint."""
  folder = workdir / "checkpoints"
  return max(steps.listed(folder), default=None) if folder.is_dir() else None


def unfinished(workdir: Path) -> list[Path]:
  """Folders of checkpoints that are being written, or were when their process was killed."""
  return list((workdir / "checkpoints").glob("*-tmp*"))


def quarantined(workdir: Path) -> list[str]:
  """The steps that were found damaged."""
  return sorted(path.name for path in (workdir / "checkpoints" / "quarantine").glob("*"))


def happened(workdir: Path, i: int) -> Path:
  """The file that says, beside the run, that its planted fault number `i` has happened."""
  return workdir.with_name(f"{workdir.name}.happened-{i}")


def arrays(workdir: Path, step: int | None = None) -> dict[str, Any]:
  """Name -> array of a checkpoint (the newest), read by Orbax alone, wherever it was written."""
  import jax
  import numpy as np
  import orbax.checkpoint as ocp

  from research.stacking import unstack

  folder = workdir / "checkpoints" / str(newest(workdir) if step is None else step)
  logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax expects its metadata a folder below
  reader = ocp.PyTreeCheckpointer()
  plain = ocp.RestoreArgs(restore_type=np.ndarray)
  places = jax.tree.map(lambda _: plain, reader.metadata(folder).item_metadata.tree)
  return unstack(reader.restore(folder, restore_args=places))


def digest(found: Mapping[str, Any]) -> str:
  """sha256 of all arrays with their names, dtypes and shapes."""
  import numpy as np

  whole = hashlib.sha256()
  for name in sorted(found):
    array = np.asarray(found[name])
    whole.update(f"{name} {array.dtype} {array.shape}\n".encode())
    whole.update(array.tobytes())
  return whole.hexdigest()


def train_lines(workdir: Path) -> dict[int, dict[str, Any]]:
  """Step -> its line in the journal; the last may be torn, and is left out."""
  path = workdir / "metrics.jsonl"
  found = {}
  for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
    try:
      line = json.loads(text)
    except ValueError:
      continue
    if line["split"] == "train":
      found[line["step"]] = line
  return found


def batches(workdir: Path) -> dict[int, tuple[float, ...]]:
  """Step -> the numbers of the examples that it was made of."""
  return {
    step: tuple(value for name, value in line.items() if name.startswith("example_"))
    for step, line in train_lines(workdir).items()
  }
