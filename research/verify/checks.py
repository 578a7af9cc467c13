"""The table of the checks: what each claims, what it rests on, and where to look when it fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from research.verify.batches import data, determinism, evaluation, microbatches
from research.verify.decoding import decoding
from research.verify.devices import devices, placement
from research.verify.layers import dropout, dtype, layers, remat
from research.verify.packing import packing, permutation
from research.verify.resume import resume
from research.verify.rows import Row
from research.verify.sight import causality, segments, windows
from research.verify.subject import Subject


@dataclasses.dataclass(frozen=True)
class Check:
  """One invariant.

  Attributes:
    name: what `--only` takes.
    run: yields the rows; its docstring is the claim.
    look: where a mistake that breaks it usually is.
    needs: checks without which it could only repeat what they say already.
  """

  name: str
  run: Callable[[Subject], Iterator[Row]]
  look: str
  needs: tuple[str, ...] = ()

  @property
  def claim(self) -> str:
    return (self.run.__doc__ or self.name).splitlines()[0]


CHECKS = (
  Check(
    "data",
    data,
    "the dataset's source(split).take(indices, epoch): it may use nothing but its arguments "
    "(no clock, no global random state, no set or dict order)",
  ),
  Check(
    "determinism",
    determinism,
    "randomness that is not made of the key of the step: make_rng('dropout'), not NumPy or time",
  ),
  Check(
    "causality",
    causality,
    "the mask of the attention (slot <= query, not query + 1), convolutions without left padding, "
    "means over the length, and what the objective hands to the model",
  ),
  Check(
    "segments",
    segments,
    "whether the model gives batch['segments'] to its mask, and the mask compares query with slot",
  ),
  Check("windows", windows, "the band of the mask: |query - slot| < window", ("causality",)),
  Check(
    "packing",
    packing,
    "whether positions are those of batch['positions'] (from 0 in each document), not of the row",
    ("causality", "segments"),
  ),
  Check(
    "permutation",
    permutation,
    "code that knows the index of a row; a loss over neighbouring rows",
    ("determinism",),
  ),
  Check(
    "microbatches",
    microbatches,
    "the objective's Mean: the total is a sum of weight * value and the weight the sum of weights, "
    "not a mean with weight 1. A loss that compares rows with one another cannot be cut: choose "
    "the other checks with --only",
    ("determinism", "permutation"),
  ),
  Check(
    "evaluation",
    evaluation,
    "the weights of the evaluation's Mean, and padding rows (zeros), which must weigh nothing",
    ("data", "determinism", "microbatches"),
  ),
  Check(
    "layers",
    layers,
    "what differs between iterations: parameter order, the key folded with the layer's number",
    ("determinism",),
  ),
  Check(
    "remat",
    remat,
    "what is wrapped in jax.checkpoint: its keys and inputs must be arguments, made outside of it",
    ("determinism",),
  ),
  Check(
    "devices",
    devices,
    "shard_map and collectives of your own (a missing psum over the axis of the mesh that is "
    "named), and means taken over a shard",
    ("determinism",),
  ),
  Check("placement", placement, "parameters made by self.param without letters", ("devices",)),
  Check(
    "decoding",
    decoding,
    "the cache: the index that is written and moved on, the slots that the mask allows, and the "
    "position of the next token (how many came before it, not zero)",
    ("causality", "segments", "packing"),
  ),
  Check(
    "resume",
    resume,
    "state that is not in TrainState: Python attributes, iterators, caches of the data",
    ("data", "determinism"),
  ),
  Check(
    "dtype",
    dtype,
    "sums, norms, softmax and losses in bfloat16; ask for float32 (preferred_element_type)",
    ("determinism", "microbatches"),
  ),
  Check(
    "dropout",
    dropout,
    "nn.Dropout acts iff a 'dropout' key was given: no deterministic=True, and 1 / (1 - rate)",
    ("determinism",),
  ),
)
