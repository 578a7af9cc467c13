"""What a linear layer makes of a language model's states, which stay as they are.

The feature-based way of Devlin et al., 2018, section 5.3: pre-trained models are told apart by one
evaluation in their own runs, without a run of fine-tuning for each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from research.data import ByHash, Bytes, Labelled, Labels
from research.data.clean import digest
from research.data.splits import HELDOUT, TRAIN
from research.data.task_rows import Record, Records
from research.errors import UserError
from research.generate.language import replicated
from research.matching.probes import check_strength, logistic
from research.metrics import Metrics, Sample
from research.nn.pooling import mean_state


@dataclasses.dataclass(frozen=True)
class TextProbe:
  """Accuracy of logistic regression on the mean of a text's last states.

  Attributes:
    records: labelled texts, or pairs of them, as those of `Labelled`.
    length: L, tokens of a row; of longer texts the ends are cut.
    marks: around texts, as of `Labelled`.
    split: which records are held out, and so told.
    limit: records to learn from, from the first on; None for all.
    strength: of the penalty, half of it times the squared weights is added to the mean loss.
    every: steps between evaluations; None for a tenth of the run. The end is always evaluated.
    rows: texts at a time.
  """

  records: Records
  length: int
  marks: tuple[str | None, str | None, str | None]
  split: ByHash
  limit: int | None = None
  strength: float = 1e-3
  every: int | None = None
  rows: int = 64

  def __post_init__(self):
    check_strength(self.strength)
    if self.rows < 1:
      raise UserError(f"rows={self.rows} asks nothing; choose at least 1.")
    self._task()

  def total(
    self, model: Any, params: Any, dataset: Any, stopping: Callable[[], bool] = lambda: False
  ) -> Metrics | None:
    """accuracy, as a sample over the held-out texts.

    Args:
      model: an encoder or a decoder with `encode(tokens, segments)`.
      params: its parameters.
      dataset: of the experiment, whose vocabulary the model reads.
      stopping: asked after every few texts; where it says yes, the result is None.
    """
    vocabulary, records = dataset.prepare().vocabulary, list(self.records.read())
    said = ["\n".join(record["texts"]) for record in records]
    numbers = self.split.divide(said, [digest(text) for text in said])
    labels = Labels.of(record["label"] for record in records)
    found = []
    for split, limit in ((TRAIN, self.limit), (HELDOUT, None)):
      some = [records[i] for i in numbers[split][:limit]]
      batch, _ = self._task().encode(vocabulary, some)
      states_BD = self._states(model, params, batch, stopping)
      if states_BD is None:
        return None
      found.append((states_BD, self._numbers(labels, some)))
    (seen_ND, seen_N), (states_BD, label_B) = found
    weights_DC, bias_C = logistic(seen_ND, seen_N, len(labels), self.strength)
    hits = np.argmax(states_BD @ weights_DC + bias_C, axis=1) == label_B
    return {"accuracy": Sample(hits.astype(float), 1 / len(labels))}

  def _task(self) -> Labelled:
    """How texts become rows; the tokenizer is the run's, and this one reads nothing."""
    return Labelled(self.records, Bytes(), self.length, marks=self.marks, limit=self.limit)

  def _numbers(self, labels: Labels, records: Sequence[Record]) -> np.ndarray:
    return np.array([labels.number(record["label"], "a record") for record in records])

  def _states(self, model, params, batch, stopping) -> np.ndarray | None:
    """(B, D) float32; None where stopped."""
    states, count = [], len(batch["tokens"])
    for first in range(0, count, self.rows):
      some = [batch[key][first : first + self.rows] for key in ("tokens", "segments")]
      full = [np.pad(x, [(0, self.rows - len(x)), (0, 0)]) for x in some]
      states.append(jax.device_get(_mean_state(model, replicated(params), params, *full)))
      if stopping():
        return None
    return np.concatenate(states)[:count]


@partial(jax.jit, static_argnums=(0, 1))
def _mean_state(model: Any, shared: Any, params: Any, tokens_BL: Array, segments_BL: Array):
  """(B, D) float32, over what is no padding; `shared` is where every process can read it."""
  # A decoder takes segments for documents of their own, and a pair of texts is one.
  segments_BL = segments_BL if hasattr(model, "segment_types") else jnp.minimum(segments_BL, 1)
  x_BLD = model.apply({"params": params}, tokens_BL, segments_BL, method="encode")
  mean_BD = mean_state(x_BLD, segments_BL)
  return mean_BD if shared is None else jax.lax.with_sharding_constraint(mean_BD, shared)
