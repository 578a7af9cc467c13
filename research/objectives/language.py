"""Losses of language models."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from jax import Array

from research.metrics import Mean, Metrics
from research.nn.cross_entropy import cross_entropy


@dataclasses.dataclass(frozen=True)
class NextToken:
  """Predict every next token; the model has `encode(tokens, segments, positions)` and `table()`.

  Attributes:
    label_smoothing: the share of the target's probability that is spread over all words.
    z_loss: weight of log(Z)², which keeps the logits' normalizer Z near 1.
  """

  label_smoothing: float = 0.0
  z_loss: float = 0.0

  def __call__(self, model: Any, batch: dict[str, Any]) -> Metrics:
    """Per token of a document (not of padding):

    loss: nats with label smoothing and z-loss, what is minimized.
    nats: -log p of the token.
    accuracy: whether it was the likeliest.
    bits_per_byte: of raw text, where the batch counts its "bytes".
    """
    x_BLD = model.encode(batch["tokens"], batch["segments"], batch["positions"])
    return _measured(self, x_BLD, model.table(), None, batch)


@dataclasses.dataclass(frozen=True)
class TargetToken:
  """Predict every next token of a target, given its source and the target before it.

  What stands before is the target itself, not what the model would write ("teacher forcing"). The
  model has `encode(source, segments, positions)`, `decode(tokens, memory, source_segments,
  segments, positions)`, `table()` and `biases()`.

  Attributes:
    label_smoothing: the share of the target's probability that is spread evenly over all V words
      (Vaswani et al., 2017, section 5.4), end-of-text and names of tokens among them.
    z_loss: as of `NextToken`.
  """

  label_smoothing: float = 0.0
  z_loss: float = 0.0

  def __call__(self, model: Any, batch: dict[str, Any]) -> Metrics:
    """What `NextToken` measures, per token of a target; padding predicts nothing."""
    source = batch["source"], batch["source_segments"], batch["source_positions"]
    x_BLD = model.decode(
      batch["tokens"],
      model.encode(*source),
      batch["source_segments"],
      batch["segments"],
      batch["positions"],
    )
    return _measured(self, x_BLD, model.table(), model.biases(), batch)


def _measured(
  objective: NextToken | TargetToken,
  x_BLD: Array,
  table_VD: Array,
  bias_V: Array | None,
  batch: dict[str, Any],
) -> Metrics:
  weights_BL = (batch["segments"] > 0).astype(jnp.float32)
  entropy = cross_entropy(
    x_BLD,
    table_VD,
    batch["targets"],
    weights_BL,
    bias_V=bias_V,
    label_smoothing=objective.label_smoothing,
    z_loss=objective.z_loss,
  )
  measured = Mean.of(entropy.loss_BL, weights_BL)
  metrics = {
    "loss": dataclasses.replace(measured, total=entropy.total),
    "nats": Mean.of(entropy.nats_BL, weights_BL),
    "accuracy": Mean.of(entropy.correct_BL, weights_BL),
  }
  if "bytes" in batch:
    bits = metrics["nats"].total / math.log(2)
    metrics["bits_per_byte"] = Mean(bits, jnp.sum(batch["bytes"] * weights_BL))
  return metrics
