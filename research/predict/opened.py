"""A run, opened to predict: its dataset, vocabulary, labels, model and parameters."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from research import checkpoint, record, sample
from research.data.labels import FILE, Labels
from research.predict import rows

ROWS = 32  # on the device at a time


class Opened:
  """One run folder.

  Attributes:
    workdir: the folder.
    dataset, model, objective, evals: of its experiment.
    vocabulary: that it was trained with.
    step: of the checkpoint.
    params: that it holds.
  """

  def __init__(self, workdir: Path, step: int | None = None):
    """Opens it; the newest checkpoint where no step is given.

    Raises:
      UserError: there is no run, or no checkpoint.
    """
    experiment, _ = record.open_run(workdir)
    self.workdir, self.dataset, self.evals = Path(workdir), experiment.data, experiment.evals
    self.model, self.objective = experiment.model, experiment.objective
    self._experiment = experiment
    with checkpoint.of_run(self.workdir) as checkpoints:
      self.step = checkpoints.chosen(step)

  @functools.cached_property
  def vocabulary(self) -> Any:
    return sample.open_vocabulary(self._experiment, self.workdir)

  @functools.cached_property
  def source_vocabulary(self) -> Any:
    """That of the sources, where there are some; often it is the same."""
    return sample.open_source_vocabulary(self._experiment, self.workdir, self.vocabulary)

  @functools.cached_property
  def begin(self) -> int:
    """The token before a target."""
    return sample.beginning(self.workdir, self.vocabulary)

  @functools.cached_property
  def lead(self) -> tuple[int, ...]:
    """The tokens before a source."""
    return sample.source_lead(self.workdir, self.source_vocabulary)

  @functools.cached_property
  def params(self) -> Any:
    return sample.open_params(self._experiment, self.workdir, self.step)

  def labels(self) -> Labels:
    """Those that it was trained with."""
    return Labels.load(self.workdir / FILE)

  def outputs(self, arrays: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """What the objective predicts of every row; see `rows.outputs`."""
    given = {name: arrays[name] for name in ("tokens", "segments")}
    return rows.outputs(functools.partial(self._predict, self.params), given, ROWS)

  @functools.cached_property
  def _predict(self) -> Any:
    return rows.compiled(self.objective, self.model)


def rounded(value: Any) -> float:
  """A number as it is written: six digits behind the point."""
  return round(float(value), 6)
