"""A run whose model has two towers, opened to encode pictures and texts."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research import checkpoint, memory, record, sample
from research.data import SquareCrop
from research.data.images import read
from research.errors import UserError
from research.features import Features
from research.matching.encoded import Encoder, Words
from research.parameters import fingerprint, parameters

MIDDLE = np.array([0.5, 0.5])


class Towers:
  """One run folder.

  Attributes:
    workdir: the folder.
    experiment: as it was run.
    step: of the checkpoint.
    size: rows and columns of a picture.
    short_side: to which a picture is resized before its middle is cut out.
    dataset: of the run, with the pictures themselves where it keeps a tower's vectors of them.
  """

  def __init__(self, workdir: Path, step: int | None = None):
    """Opens it; the newest checkpoint where no step is given.

    Raises:
      UserError: there is no such run, or no checkpoint.
    """
    memory.keep()
    self.workdir = Path(workdir)
    self.experiment, _ = record.open_run(workdir)
    model, dataset = self.experiment.model, self.experiment.data
    self.dataset: Any = dataset.data if isinstance(dataset, Features) else dataset
    if not hasattr(model, "encode_image") or not hasattr(model, "encode_text"):
      raise UserError(
        f"{workdir} has a {type(model).__name__}, and this is for models of pictures and texts, "
        "such as models.CLIP."
      )
    self.size: int = model.image_size
    self.short_side: int = getattr(self.dataset, "short_side", None) or self.size
    with checkpoint.of_run(self.workdir) as checkpoints:
      self.step = checkpoints.chosen(step)

  @functools.cached_property
  def words(self) -> Words:
    """How texts become rows."""
    vocabulary = sample.open_vocabulary(self.experiment, self.workdir)
    return Words.of(self.dataset, vocabulary)

  @functools.cached_property
  def encoder(self) -> Encoder:
    return Encoder(self.experiment.model, self.params)

  @functools.cached_property
  def params(self) -> Any:
    """On one device; averaged ones where the run keeps them."""
    experiment, model = self.experiment, self.experiment.model
    image = jnp.zeros((1, self.size, self.size, 3), jnp.uint8)
    caption, end = jnp.zeros((1, 3), jnp.int32), jnp.zeros(1, jnp.int32)

    def both(model):
      return model.encode_image(image), model.encode_text(caption, end)

    return parameters(experiment, self.workdir, self.step, nn.init(both, model))

  @functools.cached_property
  def scale(self) -> float:
    """What cosines are multiplied by before they are compared."""
    return float(self.experiment.model.apply({"params": self.params}, method="scale"))

  def fingerprint(self) -> str:
    """Changes with any bit of the checkpoint, and with what is done to a picture."""
    return fingerprint(self.workdir, self.step, self.experiment.model, self.size, self.short_side)

  def picture(self, path: Path) -> np.ndarray:
    """(Y, X, 3): the middle of a picture, as evaluations see it.

    Raises:
      Unreadable: it cannot be decoded.
      UserError: it is larger than Pillow will decode.
    """
    return SquareCrop()(read(path, self.short_side), self.size, MIDDLE)
