"""Models that are counted, not descended: fitted in one go, as a run or as a baseline of one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from research import distributed, log, metrics
from research.errors import RunError
from research.experiment import Experiment

MODEL = "model.npz"  # in the run folder


@dataclasses.dataclass(frozen=True)
class Finished:
  """How a run ended: its step, the newest evaluation of each name, whether all was done, and
  the error that ended it where there was one."""

  step: int
  evaluations: dict[str, dict[str, float]]
  complete: bool
  error: RunError | None = None


def fit(experiment: Experiment, workdir: Path) -> Finished:
  """Counts the train split, evaluates, and leaves the model and its tokenizer in `workdir`.

  Of the processes of a job the first does it, and the others wait.
  """
  evaluations = {}
  with distributed.together("counting"):
    if distributed.first():
      evaluations = _fit(experiment, Path(workdir))
  return Finished(1, evaluations, complete=True)


def _fit(experiment: Experiment, workdir: Path) -> dict[str, dict[str, float]]:
  prepared = experiment.data.prepare()
  prepared.vocabulary.save(workdir / "vocabulary")
  evaluations = {}
  with log.Log(workdir, steps=1) as journal:
    model = fitted(experiment.model, prepared)
    model.save(workdir / MODEL)
    for name, item in experiment.evals.items():
      measured = score(model, prepared, item.split)
      evaluations[name] = metrics.means(measured)
      journal.evaluation(1, name, evaluations[name], metrics.standard_errors(measured))
    for name, baseline in experiment.baselines.items():
      measured = score_baseline(baseline, prepared)
      journal.baseline(name, metrics.means(measured), metrics.standard_errors(measured))
  return evaluations


def score_baseline(baseline: Any, prepared: Any) -> metrics.Metrics:
  """What a baseline scores on held-out data: a model that counts tokens, or one with a `score`."""
  if hasattr(baseline, "score"):
    return baseline.score(prepared, "heldout")
  return score(fitted(baseline, prepared), prepared, "heldout")


def fitted(model: Any, prepared: Any) -> Any:
  """The model counted on the train split of a prepared text."""
  vocabulary = prepared.vocabulary
  stream = _closed(prepared, "train")
  return model.fit(stream, vocab_size=vocabulary.vocab_size, end=vocabulary.end)


def score(model: Any, prepared: Any, split: str) -> metrics.Metrics:
  """What a counted model scores on every token of a split, in the context of its document."""
  return model.measure(_closed(prepared, split), prepared.vocabulary.bytes_of)


def _closed(prepared: Any, split: str) -> np.ndarray:
  """The split's tokens with every document closed by end-of-text: what there is to predict."""
  return np.append(prepared.tokens(split)[1:], prepared.vocabulary.end)
