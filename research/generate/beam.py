"""Beam search: of all that a decoder may write, the likeliest that a narrow search finds.

In every step each text has as many unfinished continuations as the beam is wide, all of them are
continued by every word, and of these the likeliest stay. What ends among the likeliest is kept,
by its sum of log-probabilities divided by its length to a power, end-of-text counted: Hugging
Face's convention (GNMT's is ((5 + length) / 6) to a power; Wu et al., 2016, equation 14). A text is
over where what is kept fills the beam, and the likeliest unfinished one, scored as if it ended
here, is not better than the worst of them: `early_stopping=False` of `transformers`, to which the
results are equal token for token.
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
from jax.sharding import NamedSharding

from research.errors import UserError
from research.generate import language
from research.generate.language import NOTHING

# (cache, the newest token of each text, how many were written) -> logits of the next, cache.
Step = Callable[[Any, Array, Array], tuple[Array, Any]]


@dataclasses.dataclass(frozen=True)
class Beam:
  """How wide is searched, and how long results are wanted.

  Attributes:
    size: W, continuations that are looked at.
    length_penalty: the power of the length that a sum of log-probabilities is divided by: 0 for
      the likeliest text, which tends to be short; more for longer ones.
  """

  size: int
  length_penalty: float = 1.0

  def __post_init__(self):
    if self.size < 1:
      raise UserError(f"beam size={self.size} looks at nothing; choose at least 1.")


@partial(
  jax.tree_util.register_dataclass,
  data_fields=["cache", "tokens_BWT", "sums_BW", "kept_BWT", "scores_BW", "going_B", "written"],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class State:
  """Where the search stands.

  Attributes:
    cache: of the model, a row for each unfinished continuation.
    tokens_BWT, sums_BW: unfinished continuations, the likeliest first, and the sums of their
      log-probabilities; -inf where there is none.
    kept_BWT, scores_BW: what has ended, and how good it is; -inf where there is none.
    going_B: which texts are not over.
    written: tokens of the unfinished ones.
  """

  cache: Any
  tokens_BWT: Array
  sums_BW: Array
  kept_BWT: Array
  scores_BW: Array
  going_B: Array
  written: Array


def beam_search(
  model: Any,
  params: Any,
  prompts: Sequence[np.ndarray],
  *,
  steps: int,
  beam: Beam,
  end: int | None,
  never: Sequence[int] = (),
) -> np.ndarray:
  """What a decoder most likely writes after every prompt: (B, n) int32, `NOTHING` behind its end.

  Args:
    model, params, prompts, steps, end, never: as of `language.stream`.
    beam: how to search.

  Raises:
    UserError: a prompt is empty or too long.
  """
  lengths = language.check(prompts, model.max_length)
  if steps < 1:
    raise UserError(f"steps={steps} writes nothing; choose at least 1.")
  longest = min(language.power_of_two(max(lengths) - 1), model.max_length)
  tokens_BL = np.zeros((len(prompts), longest), np.int32)
  for row, prompt in zip(tokens_BL, prompts):
    row[longest - len(prompt) + 1 :] = prompt[:-1]
  last_B = np.array([prompt[-1] for prompt in prompts], np.int32)
  lengths_B = np.array(lengths, np.int32)
  limits_B = np.minimum(steps, model.max_length + 1 - lengths_B)
  steps = int(limits_B.max())  # what is asked for and cannot be written takes no room
  params, shared = language.cast(params, model.dtype), language.replicated(params)
  settings = (model, beam, steps, NOTHING if end is None else end, tuple(never), shared)
  found_BWT = _after(*settings, params, tokens_BL, last_B, lengths_B, limits_B)[0]
  best_BT = np.asarray(found_BWT)[:, 0]
  return best_BT[:, : int((best_BT != NOTHING).sum(axis=1).max())]


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _after(
  model, beam, steps, end, never, shared, params, tokens_BL, last_B, lengths_B, limits_B
) -> tuple[Array, Array]:
  slots = tokens_BL.shape[1] + steps
  cache = language.read(model, slots, params, tokens_BL, lengths_B - 1)
  starts_N = jnp.repeat(lengths_B - 1, beam.size)

  def step(cache, token_N, written):
    positions_N = jnp.minimum(starts_N + written, model.max_length - 1)
    inputs = (x_N[:, None] for x_N in (token_N, jnp.ones_like(positions_N), positions_N))
    variables = {"params": params, "cache": cache}
    logits_NV, kept = model.apply(variables, *inputs, method=language.logits, mutable=["cache"])
    return logits_NV, kept["cache"]

  cache = repeat(cache, beam.size)
  settings = {"steps": steps, "end": end, "never": never, "shared": shared}
  return search(beam, step, cache, last_B, limits_B, **settings)


def search(
  beam: Beam,
  step: Step,
  cache: Any,
  last_B: Array,
  limits_B: Array,
  *,
  steps: int,
  end: int,
  never: tuple[int, ...] = (),
  shared: NamedSharding | None = None,
) -> tuple[Array, Array]:
  """The W best continuations that were found of each text, the best first; traceable.

  Args:
    beam: how to search.
    step: the decoder, for N = B W rows, those of a text next to one another.
    cache: what it has read but for the last token, see `repeat`.
    last_B: that token.
    limits_B: tokens to write at most; what is as long has ended.
    steps: T, of these the largest.
    end: the token that ends a text.
    never: tokens that are not written.
    shared: where what is chosen goes, on a mesh.

  Returns:
    (B, W, T) int32 with `NOTHING` behind the end, and (B, W) their scores, -inf of what is none.
  """
  B, W = last_B.shape[0], beam.size
  first_W = jnp.arange(W) == 0
  nothing_BWT = jnp.full((B, W, steps), NOTHING, jnp.int32)
  lowest_BW = jnp.full((B, W), -jnp.inf, jnp.float32)
  state = State(
    cache,
    nothing_BWT,
    jnp.where(first_W, 0.0, lowest_BW),  # all are the same yet: one of them is enough
    nothing_BWT,
    lowest_BW,
    jnp.ones(B, bool),
    jnp.zeros((), jnp.int32),
  )

  def going_on(state):
    return jnp.any(state.going_B) & (state.written < jnp.max(limits_B))

  def turn(state):
    newest_BW = jnp.where(
      state.written == 0,
      last_B[:, None],
      jax.lax.dynamic_index_in_dim(state.tokens_BWT, state.written - 1, 2, keepdims=False),
    )
    logits_NV, cache = step(state.cache, newest_BW.reshape(-1), state.written)
    log_probs_NV = jax.nn.log_softmax(logits_NV.astype(jnp.float32))
    log_probs_NV = log_probs_NV.at[:, list(never)].set(-jnp.inf)
    if shared is not None:
      log_probs_NV = jax.lax.with_sharding_constraint(log_probs_NV, shared)
    V = log_probs_NV.shape[-1]
    sums_BC = state.sums_BW[:, :, None] + log_probs_NV.reshape(B, W, V)
    # Each continuation can end in one way: of twice as many candidates enough do not.
    sums_BC, chosen_BC = jax.lax.top_k(sums_BC.reshape(B, -1), min(2 * W, W * V))
    parents_BC, words_BC = chosen_BC // V, chosen_BC % V
    tokens_BCT = _pick(state.tokens_BWT, parents_BC)
    tokens_BCT = jax.lax.dynamic_update_index_in_dim(tokens_BCT, words_BC, state.written, 2)
    written = state.written + 1
    ends_BC = (words_BC == end) | (written >= limits_B)[:, None]

    length = written.astype(jnp.float32) ** beam.length_penalty
    among_best_C = jnp.arange(sums_BC.shape[1]) < W
    ended_BC = ends_BC & among_best_C & state.going_B[:, None]
    scores_BC = jnp.where(ended_BC, sums_BC / length, -jnp.inf)
    all_scores = jnp.concatenate([state.scores_BW, scores_BC], axis=1)
    scores_BW, kept_BW = jax.lax.top_k(all_scores, W)
    kept_BWT = _pick(jnp.concatenate([state.kept_BWT, tokens_BCT], axis=1), kept_BW)

    sums_BW, stay_BW = jax.lax.top_k(jnp.where(ends_BC, -jnp.inf, sums_BC), W)
    parents_BW = _pick(parents_BC, stay_BW)
    rows_N = (jnp.arange(B)[:, None] * W + parents_BW).reshape(-1)
    going_B = state.going_B & (sums_BW[:, 0] / length > scores_BW[:, -1]) & (written < limits_B)
    return State(
      _of_rows(cache, rows_N),
      _pick(tokens_BCT, stay_BW),
      sums_BW,
      kept_BWT,
      scores_BW,
      going_B,
      written,
    )

  state = jax.lax.while_loop(going_on, turn, state)
  return state.kept_BWT, state.scores_BW


def repeat(cache: Any, count: int) -> Any:
  """A cache of B rows as one of N: each row stands `count` times, next to one another."""

  def one(path, x):
    axis = _rows_axis(path, x)
    return x if axis is None else jnp.repeat(x, count, axis)

  return jax.tree_util.tree_map_with_path(one, cache)


def _of_rows(cache: Any, rows_N: Array) -> Any:
  """The cache as other continuations of the same texts have it: what they wrote, no more."""

  def one(path, x):
    shared = any(key.key in ("cross_attention", "history") for key in path)
    return x if shared else jnp.take(x, rows_N, axis=_rows_axis(path, x))

  return jax.tree_util.tree_map_with_path(one, cache)


def _rows_axis(path: Any, x: Array) -> int | None:
  """Where the rows of an array of a cache are: keys and values may stand stacked by layers."""
  if path[-1].key in ("keys", "values"):
    return x.ndim - 4
  return 0 if x.ndim else None


def _pick(x_BC: Array, chosen_BW: Array) -> Array:
  """(B, C, ...) -> (B, W, ...)."""
  indices = chosen_BW.reshape(*chosen_BW.shape, *([1] * (x_BC.ndim - 2)))
  return jnp.take_along_axis(x_BC, indices, axis=1)
