"""Pictures as a frozen tower sees them, computed once: training then reads vectors.

A tower that does not learn gives the same vector for the same picture in every epoch. The cache is
one for each tower (every bit of its weights), preprocessing (the dataset's description, what it has
prepared and what it draws) and example.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research import checkpoint, record
from research.data import cache, pipeline, progress
from research.errors import UserError
from research.parameters import fingerprint, parameters

FORMAT = 1  # raise it whenever the files of the cache, or what is in them, change
IMAGE = "image"


@dataclasses.dataclass(frozen=True)
class Features:
  """A dataset of pictures with captions, of whose pictures a tower's vectors are kept.

  The run that trains on it has that tower in its model, as its `init_from`, and frozen; what is
  left of the pictures' way is their projection.

  Attributes:
    data: the pictures with their captions.
    tower: a run whose model is a `CLIP`, of which the image tower counts, or a `ViT`.
    step: of its checkpoint; the newest where none is chosen.
    views: epochs whose pictures, cropped and changed by chance, are kept; later ones are theirs
      again. One is enough where an epoch shows what another does.
    rows: pictures at a time.
  """

  data: Any
  tower: str
  step: int | None = None
  views: int = 1
  rows: int = 64

  def __post_init__(self):
    for field in ("views", "rows"):
      if getattr(self, field) < 1:
        raise UserError(f"{field}={getattr(self, field)} must be at least 1.")

  def prepare(self) -> Any:
    """What the pictures' own dataset prepares; its vocabulary, above all."""
    return self.data.prepare()

  def example(self) -> pipeline.Batch:
    """One pair of zeros; only what describes the tower is read."""
    tower = _Tower(self.tower, self.step)
    return {**self.data.example(), IMAGE: np.zeros((1, tower.width), np.float32)}

  def source(self, split: str) -> Vectors:
    """The pairs of a split, computed where they are not there."""
    source, tower = self.data.source(split), _Tower(self.tower, self.step)
    views = self.views if split == "train" else 1
    prepared = getattr(self.prepare(), "folder", None)  # named by all that it was made of
    name = cache.key(
      FORMAT,
      tower.fingerprint,
      repr(self.data),
      prepared and prepared.name,
      pipeline.fingerprint(source),
      split,
      views,
    )

    def write(folder: Path) -> None:
      with progress.line(f"the frozen tower sees {split!r}") as show:
        for view in show(range(views)):
          self._write(folder / str(view), source, view, tower)

    return Vectors(cache.folder("features", name, write), views, len(source))

  @property
  def tokenizer(self) -> Any:
    """Of the captions, as the dataset has it."""
    return getattr(self.data, "tokenizer", None)

  @property
  def start(self) -> int | None:
    """The token before a caption, as the dataset has it."""
    return getattr(self.data, "start", None)

  @property
  def pad(self) -> int:
    """The token behind a caption's end, as the dataset has it."""
    return getattr(self.data, "pad", 0)

  @property
  def short_side(self) -> int | None:
    """Of a picture before it is cropped, as the dataset has it."""
    return getattr(self.data, "short_side", None)

  def _write(self, folder: Path, source: pipeline.Source, view: int, tower: _Tower) -> None:
    folder.mkdir()
    parts: dict[str, list[np.ndarray]] = {}
    for first in range(0, len(source), self.rows):
      numbers = np.arange(first, min(first + self.rows, len(source)))
      batch = source.take(numbers, view)
      batch = {**batch, IMAGE: tower(batch[IMAGE], self.rows)}
      for key, x in batch.items():
        parts.setdefault(key, []).append(x)
    for key, arrays in parts.items():
      np.save(folder / f"{key}.npy", np.concatenate(arrays), allow_pickle=False)


class Vectors:
  """The pairs of one split, memory-mapped."""

  def __init__(self, folder: Path, views: int, size: int):
    self._size = size
    self._views = [
      {file.stem: np.load(file, mmap_mode="r") for file in sorted((folder / str(v)).glob("*.npy"))}
      for v in range(views)
    ]

  def __len__(self) -> int:
    return self._size

  def take(self, indices: np.ndarray, epoch: int) -> pipeline.Batch:
    """The pairs as their dataset gave them in the epoch, or in an earlier one that is kept."""
    view = self._views[epoch % len(self._views)]
    return {key: np.asarray(x[indices]) for key, x in view.items()}


class _Tower:
  """The image tower of a run."""

  def __init__(self, run: str, step: int | None):
    self._run = Path(run)
    self._experiment, _ = record.open_run(self._run)
    model = self._experiment.model
    if hasattr(model, "see"):
      self._model, self._method = model, "see"
      self.width: int = model.image_width
    elif hasattr(model, "patch"):
      self._model, self._method = model.clone(classes=None, representation=None), "__call__"
      self.width = model.width
    else:
      raise UserError(f"tower={run} has a {type(model).__name__}; a CLIP or a ViT sees pictures.")
    with checkpoint.of_run(self._run) as checkpoints:
      self._step = checkpoints.chosen(step)

  @property
  def fingerprint(self) -> str:
    """Changes with any bit of the run's weights."""
    return fingerprint(self._run, self._step, self._model)

  def __call__(self, image_BYXC: np.ndarray, rows: int) -> np.ndarray:
    """(B, D) float32 of at most so many rows; fewer are filled up, to be compiled once."""
    missing = rows - len(image_BYXC)
    full = np.pad(image_BYXC, ((0, missing), (0, 0), (0, 0), (0, 0)))
    return np.asarray(self._seen({"params": self._params}, full))[: len(image_BYXC)]

  @functools.cached_property
  def _seen(self) -> Any:
    def seen(params, image):
      return self._model.apply(params, image, method=self._method).astype(jnp.float32)

    return jax.jit(seen)

  @functools.cached_property
  def _params(self) -> Any:
    size = self._model.image_size
    image = jnp.zeros((1, size, size, 3), jnp.uint8)
    init = functools.partial(self._model.init, method=self._method)
    return parameters(self._experiment, self._run, self._step, lambda key: init(key, image))
