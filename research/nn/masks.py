"""Who may look at whom: one mask for all models, kept as its reasons rather than as a matrix."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from research.errors import UserError


@partial(
  jax.tree_util.register_dataclass,
  meta_fields=["causal", "window"],
  data_fields=[
    "segments_BL",
    "memory_segments_BM",
    "positions_BL",
    "memory_positions_BM",
    "prefix_B",
    "offset",
  ],
)
@dataclasses.dataclass(frozen=True)
class Mask:
  """A query sees a memory slot iff every reason given here allows it.

  What is static (`causal`, `window`) lets a kernel skip whole blocks; the arrays do the rest. A
  query that may see nothing attends to nothing: its result is zero.

  Attributes:
    causal: a query sees itself and what came before it.
    window: a query sees less than `window` tokens away: a band, the one of GPT-3's sparse layers.
    segments_BL: the document of each query, from 1; it sees its own document. 0 is padding.
    memory_segments_BM: the document of each memory slot; that of the queries where not given.
    positions_BL: where each query stands, for the window; its index where not given.
    memory_positions_BM: where each memory slot stands.
    prefix_B: the first `prefix` slots are seen by all, also from before them (prefix-LM).
    offset: the index of the first query among the memory slots; a number while decoding.
  """

  causal: bool = False
  window: int | None = None
  segments_BL: Array | None = None
  memory_segments_BM: Array | None = None
  positions_BL: Array | None = None
  memory_positions_BM: Array | None = None
  prefix_B: Array | None = None
  offset: Array | None = None

  def __post_init__(self):
    if self.window is not None and self.window < 1:
      raise UserError(
        f"window={self.window} would hide a token from itself; choose at least 1, or None for all."
      )

  def narrow(self, window: int | None) -> Mask:
    """The same mask, seen through a window."""
    return dataclasses.replace(self, window=window)

  def dense(
    self, L: int, M: int, first_query: int | Array | None = None, first_slot: int | Array = 0
  ) -> Array:
    """Every reason as one matrix: bool, (B or 1, 1, L, M), True where the query may look.

    Args:
      L, M: numbers of queries and of memory slots.
      first_query: index of the first query; the mask's offset, or 0, where not given.
      first_slot: index of the first memory slot, where they are part of a longer memory.
    """
    if first_query is None:
      first_query = 0 if self.offset is None else self.offset
    query_1L1 = (first_query + jnp.arange(L))[None, :, None]
    slot_11M = (first_slot + jnp.arange(M))[None, None, :]
    visible_BLM = jnp.ones((1, L, M), bool)
    if self.causal:
      visible_BLM &= slot_11M <= query_1L1
    if self.prefix_B is not None:
      visible_BLM |= slot_11M < self.prefix_B[:, None, None]
    if self.window is not None:
      distance_BLM = query_1L1 - slot_11M
      if self.positions_BL is not None:
        memory_BM = _first(self.memory_positions_BM, self.positions_BL)
        distance_BLM = self.positions_BL[:, :, None] - memory_BM[:, None, :]
      visible_BLM &= jnp.abs(distance_BLM) < self.window
    if self.segments_BL is not None:
      memory_BM = _first(self.memory_segments_BM, self.segments_BL)
      visible_BLM &= self.segments_BL[:, :, None] == memory_BM[:, None, :]
      visible_BLM &= self.segments_BL[:, :, None] > 0
    return visible_BLM[:, None]


def padding(present_BM: Array, L: int) -> Mask:
  """Every one of L queries sees the slots that are present: encoders, and memory from elsewhere.

  Args:
    present_BM: bool or a number, nonzero where there is a token.
  """
  present_BM = (present_BM > 0).astype(jnp.int32)
  segments_BL = jnp.ones((present_BM.shape[0], L), jnp.int32)
  return Mask(segments_BL=segments_BL, memory_segments_BM=present_BM)


def positions_in_segments(mask: Mask, L: int, M: int) -> Array:
  """(B or 1, L) int32: how many earlier tokens of its own document each query sees."""
  seen_BL = jnp.sum(mask.narrow(None).dense(L, M), axis=-1, dtype=jnp.int32)[:, 0]
  return jnp.maximum(seen_BL - 1, 0)


def show(mask: Mask, L: int, M: int | None = None, row: int = 0) -> str:
  """One row of the batch as text: a line per query, `#` where it looks and `.` where not."""
  visible_LM = jax.device_get(mask.dense(L, M or L))[row, 0]
  return "\n".join("".join("#" if seen else "." for seen in line) for line in visible_LM)


def _first(*values: Array | None) -> Array:
  return next(value for value in values if value is not None)
