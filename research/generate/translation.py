"""Targets from an encoder-decoder: the sources at once, then one token after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from research.errors import UserError
from research.generate import beam as beams
from research.generate import language
from research.generate.beam import Beam
from research.generate.language import NOTHING
from research.generate.sampling import Greedy, Sampler
from research.nn.cross_entropy import unembed

ROWS = 32  # sources at a time


class Target(NamedTuple):
  """What was found for a source.

  Attributes:
    tokens: int32, the last one `end` if it came to it.
    score: the sum of their log-probabilities, in nats; of a `Beam` divided by their number to the
      power of its penalty.
  """

  tokens: np.ndarray
  score: float


def translate(
  model: Any, params: Any, sources: Sequence[np.ndarray], **settings: Any
) -> list[np.ndarray]:
  """The tokens that `translations` finds, in the order of the sources."""
  found = dict(translations(model, params, sources, **settings))
  return [found[i].tokens for i in range(len(sources))]


def translations(
  model: Any,
  params: Any,
  sources: Sequence[np.ndarray],
  *,
  steps: int,
  begin: Sequence[int],
  end: int | None,
  search: Beam | Sampler = Greedy(),  # noqa: B008 (frozen)
  never: Sequence[int] = (),
  key: Array | None = None,
  rows: int = ROWS,
) -> Iterator[tuple[int, Target]]:
  """The number and the target of every source, as soon as it is found: of short sources first.

  Sources are decoded side by side, those of like length together, and do not depend on one
  another. A program is compiled for each power of two that the longest source of a batch is
  rounded up to.

  Args:
    model: with `encode`, `decode`, `table`, `biases` and a "cache", such as `models.Transformer`.
    params: its parameters.
    sources: tokens, end-of-text among them where the model has learned so; at most `max_length`.
    steps: tokens to write at most, also limited by `max_length`, the last one not counted.
    begin: tokens that lead every target and are not returned, such as `(vocabulary.end,)`.
    end: the end-of-text token; None where no token ends a target.
    search: `Beam(size)`, `Greedy()` or `Sample(...)`.
    never: tokens that are not written.
    key: of the randomness of `Sample`; source i has fold_in(key, i).
    rows: sources at a time.

  Raises:
    UserError: a source is empty or too long, or `begin` is.
  """
  for i, source in enumerate(sources):
    if not 1 <= len(source) <= model.max_length:
      raise UserError(
        f"source {i} has {len(source)} tokens; a source has 1 to max_length={model.max_length}."
      )
  if not len(begin) or len(begin) > model.max_length or steps < 1 or rows < 1:
    raise UserError(
      f"begin={tuple(begin)}, steps={steps}, rows={rows}: a target begins with 1 to "
      f"{model.max_length} tokens, and at least 1 is written, of 1 source at a time or more."
    )
  steps = min(steps, model.max_length + 1 - len(begin))
  params, shared = language.cast(params, model.dtype), language.replicated(params)
  key = jax.random.key(0, impl="threefry2x32") if key is None else key
  settings = (model, search, steps, tuple(begin), NOTHING if end is None else end, tuple(never))
  rows = min(rows, language.power_of_two(len(sources), least=1))
  order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
  for start in range(0, len(order), rows):
    batch = order[start : start + rows]
    M = min(language.power_of_two(len(sources[batch[-1]])), model.max_length)
    source_BM, segments_BM = np.zeros((2, rows, M), np.int32)
    for row, i in enumerate(batch):
      source_BM[row, : len(sources[i])] = sources[i]
      segments_BM[row, : len(sources[i])] = 1
    numbers_B = np.array(batch + [0] * (rows - len(batch)), np.int32)
    found = _decode(*settings, shared, params, source_BM, segments_BM, numbers_B, key)
    for i, tokens, score in zip(batch, *map(np.asarray, found)):
      yield i, Target(tokens[tokens != NOTHING], float(score))


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5, 6))
def _decode(
  model, search, steps, begin, end, never, shared, params, source_BM, segments_BM, numbers_B, key
) -> tuple[Array, Array]:
  """(B, T) int32, `NOTHING` behind the end of each; and (B,) their scores."""
  B, W = len(source_BM), search.size if isinstance(search, Beam) else 1
  memory_BMD = model.apply({"params": params}, source_BM, segments_BM, method="encode")
  cache = _read(model, len(begin) + steps, params, begin[:-1], memory_BMD, segments_BM)
  # After this the cache has all that is known of the memory; it is handed on for its shape.
  memory = jnp.repeat(memory_BMD, W, axis=0), jnp.repeat(segments_BM, W, axis=0)

  def step(cache, token_N, written):
    N = token_N.shape[0]
    positions_N1 = jnp.broadcast_to(len(begin) - 1 + written, (N, 1))
    logits_NV, kept = model.apply(
      {"params": params, "cache": cache},
      token_N[:, None],
      *memory,
      jnp.ones((N, 1), jnp.int32),
      positions_N1,
      method=_logits,
      mutable=["cache"],
    )
    return logits_NV, kept["cache"]

  last_B = jnp.full(B, begin[-1], jnp.int32)
  # Padding is a source without tokens, whose target is over at once.
  limits_B = jnp.where(segments_BM[:, 0] > 0, steps, 1)
  settings = {"steps": steps, "end": end, "never": never, "shared": shared}
  if isinstance(search, Beam):
    found = beams.search(search, step, beams.repeat(cache, W), last_B, limits_B, **settings)
    return found[0][:, 0], found[1][:, 0]
  keys_B = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers_B)
  return _sampled(search, step, cache, last_B, limits_B, keys_B, **settings)


def _read(model, slots: int, params, read, memory_BMD: Array, segments_BM: Array) -> Any:
  """A cache of so many slots: of padding, which makes it know the memory, and of tokens to read."""
  B, L = memory_BMD.shape[0], 1 + len(read)
  empty = {
    "index": jnp.zeros((), jnp.int32),
    "segments": jnp.zeros((B, slots), jnp.int32),
    "positions": jnp.zeros((B, slots), jnp.int32),
  }
  tokens_BL = jnp.tile(jnp.array((0, *read), jnp.int32), (B, 1))
  there_BL = jnp.tile(jnp.arange(L) > 0, (B, 1)).astype(jnp.int32)
  positions_BL = jnp.tile(jnp.maximum(jnp.arange(L) - 1, 0), (B, 1))
  return model.apply(
    {"params": params, "cache": {"history": empty}},
    *(tokens_BL, memory_BMD, segments_BM, there_BL, positions_BL),
    method="decode",
    mutable=["cache"],
  )[1]["cache"]


def _sampled(
  sampler: Sampler, step, cache, last_B, limits_B, keys_B, *, steps, end, never, shared
) -> tuple[Array, Array]:
  """One token after another, each chosen by the sampler."""

  def going_on(state):
    *_, over_B, written = state
    return (written < steps) & ~over_B.all()

  def turn(state):
    cache, token_B, tokens_BT, sums_B, over_B, written = state
    logits_BV, cache = step(cache, token_B, written)
    logits_BV = logits_BV.at[:, list(never)].set(-jnp.inf)
    token_B = sampler(jax.vmap(jax.random.fold_in, (0, None))(keys_B, written), logits_BV)
    if shared is not None:
      token_B = jax.lax.with_sharding_constraint(token_B, shared)
    log_probs_BV = jax.nn.log_softmax(logits_BV.astype(jnp.float32))
    log_probs_B = jnp.take_along_axis(log_probs_BV, token_B[:, None], axis=1)[:, 0]
    sums_B += jnp.where(over_B, 0.0, log_probs_B)
    new_B = jnp.where(over_B, NOTHING, token_B)
    tokens_BT = jax.lax.dynamic_update_index_in_dim(tokens_BT, new_B, written, 1)
    written += 1
    over_B |= (token_B == end) | (written >= limits_B)
    return cache, token_B, tokens_BT, sums_B, over_B, written

  tokens_BT = jnp.full((len(last_B), steps), NOTHING, jnp.int32)
  sums_B, over_B = jnp.zeros(len(last_B)), jnp.zeros(len(last_B), bool)
  state = (cache, last_B, tokens_BT, sums_B, over_B, jnp.zeros((), jnp.int32))
  return jax.lax.while_loop(going_on, turn, state)[2:4]


def _logits(model, token_N1, memory_NMD, source_segments_NM, segments_N1, positions_N1) -> Array:
  inputs = token_N1, memory_NMD, source_segments_NM, segments_N1, positions_N1
  return unembed(model.decode(*inputs), model.table(), model.biases())[:, 0]
