"""Text from a decoder: the prompts at once into a cache, then one token after another.

Texts are decoded side by side and do not depend on one another: each has its own randomness, and
its prompt is padded on the left with tokens of no document, which nothing looks at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from research.errors import UserError
from research.generate.sampling import Sampler
from research.nn.cross_entropy import unembed

CHUNK = 16  # tokens between two looks of the host
NOTHING = -1  # stands where a text is over


@partial(
  jax.tree_util.register_dataclass,
  data_fields=["cache", "token_B", "written", "over_B"],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class State:
  """Where decoding stands.

  Attributes:
    cache: of the model: keys and values of all but the newest token.
    token_B: the newest token; of the prompt, where nothing was written.
    written: how many tokens each text was given.
    over_B: which texts have ended.
  """

  cache: Any
  token_B: Array
  written: Array
  over_B: Array


@partial(
  jax.tree_util.register_dataclass,
  data_fields=["lengths_B", "limits_B", "keys_B", "end"],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class Plan:
  """What does not change: lengths of the prompts, tokens to write at most, keys, end-of-text."""

  lengths_B: Array
  limits_B: Array
  keys_B: Array
  end: Array


def generate(model: Any, params: Any, prompts: Sequence[np.ndarray], **settings: Any) -> np.ndarray:
  """All tokens of `stream` at once: (B, n) int32, where n is of the longest text."""
  settings.setdefault("chunk", power_of_two(settings["steps"]))
  return np.concatenate(list(stream(model, params, prompts, **settings)), axis=1)


def stream(
  model: Any,
  params: Any,
  prompts: Sequence[np.ndarray],
  *,
  steps: int,
  sampler: Sampler,
  key: Array,
  end: int | None,
  never: Sequence[int] = (),
  chunk: int = CHUNK,
) -> Iterator[np.ndarray]:
  """Continues every prompt, and yields what is new while it does.

  A text ends with the token `end`, after `steps` tokens, or where the model can read no further:
  its prompt and what it wrote, but for the last token, are then `max_length` tokens. What row b
  becomes is a function of its prompt and fold_in(key, b), whatever the other rows are.

  Two programs are compiled for a number of prompts, a length of them and a number of steps, both
  rounded up to powers of two: one reads the prompts, the other writes.

  Args:
    model: a decoder with `encode`, `table` and a "cache" collection, such as `models.GPT`.
    params: its parameters; see `cast`.
    prompts: B arrays of tokens, each at least one and at most `max_length`.
    steps: tokens to write at most.
    sampler: `Greedy()` or `Sample(...)`.
    key: of all randomness; of an implementation that can be vectorized, as Threefry.
    end: the end-of-text token; None where no token ends a text.
    never: tokens that are not written, such as those that are `wordless`.
    chunk: tokens to yield at a time.

  Yields:
    (B, n) int32 tokens; where a text is over, `NOTHING`.

  Raises:
    UserError: a prompt is empty or too long.
  """
  lengths = check(prompts, model.max_length)
  if steps < 1:
    raise UserError(f"steps={steps} writes nothing; choose at least 1.")
  # All but the last token of the prompts are read at once; with the last one, writing begins.
  longest = min(power_of_two(max(lengths) - 1), model.max_length)
  tokens_BL = np.zeros((len(prompts), longest), np.int32)
  for row, prompt in zip(tokens_BL, prompts):
    row[longest - len(prompt) + 1 :] = prompt[:-1]
  plan = Plan(
    np.array(lengths, np.int32),
    np.minimum(steps, model.max_length + 1 - np.array(lengths, np.int32)),
    jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(len(prompts))),
    np.int32(NOTHING if end is None else end),
  )
  slots = longest + min(power_of_two(steps), model.max_length)
  params, shared = cast(params, model.dtype), replicated(params)
  state = State(
    read(model, slots, params, tokens_BL, plan.lengths_B - 1),
    np.array([prompt[-1] for prompt in prompts], np.int32),
    np.int32(0),
    np.zeros(len(prompts), bool),
  )
  return _steps(partial(_write, model, sampler, chunk, tuple(never), shared, params, plan), state)


def _steps(go_on, state: State) -> Iterator[np.ndarray]:
  while not np.asarray(state.over_B).all():
    before = int(state.written)
    state, tokens_BC = go_on(state)
    yield np.asarray(tokens_BC)[:, : int(state.written) - before]


def check(prompts: Sequence[np.ndarray], max_length: int) -> list[int]:
  """The lengths of the prompts; UserError where there is nothing to continue, or too much."""
  lengths = [len(prompt) for prompt in prompts]
  if not lengths or min(lengths) < 1:
    raise UserError("a prompt has no tokens; begin with the end-of-text token, as documents do.")
  if max(lengths) > max_length:
    raise UserError(
      f"a prompt of {max(lengths)} tokens is longer than the model's max_length={max_length}; "
      f"shorten it by {max(lengths) - max_length} tokens, or train with a larger max_length."
    )
  return lengths


def wordless(model: Any, vocabulary: Any) -> range:
  """The tokens that no text has: rows of the model's table that only fill it."""
  return range(vocabulary.vocab_size, getattr(model, "vocab_size", 0))


def cast(params: Any, dtype: str) -> Any:
  """Parameters whose matrices have the dtype of the products that they are in.

  Decoding reads every matrix for every token, so that half the bytes are half the time. Products
  come out as with float32 parameters; embeddings are rounded a little earlier. `stream` does it,
  and finds nothing to do where it was done before.
  """
  return _cast(params, dtype) if jnp.dtype(dtype) != jnp.float32 else params


@partial(jax.jit, static_argnames="dtype")
def _cast(params: Any, dtype: str) -> Any:
  def narrow(path, x):
    return x.astype(dtype) if path[-1].key in ("kernel", "table") else x

  return jax.tree_util.tree_map_with_path(narrow, params)


@partial(jax.jit, static_argnums=(0, 1))
def read(model, slots: int, params, tokens_BL: Array, lengths_B: Array) -> Any:
  """A cache of so many slots, with the last `lengths_B` tokens of each row in it."""
  B, L = tokens_BL.shape
  positions_BL = jnp.arange(L) - (L - lengths_B[:, None])
  empty = {
    "index": jnp.zeros((), jnp.int32),
    "segments": jnp.zeros((B, slots), jnp.int32),
    "positions": jnp.zeros((B, slots), jnp.int32),
  }
  variables = {"params": params, "cache": {"history": empty}}
  segments_BL = (positions_BL >= 0).astype(jnp.int32)
  inputs = tokens_BL, segments_BL, jnp.maximum(positions_BL, 0)
  return model.apply(variables, *inputs, method="encode", mutable=["cache"])[1]["cache"]


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4), donate_argnums=7)
def _write(model, sampler, chunk: int, never, shared, params, plan: Plan, state: State):
  """Writes up to `chunk` tokens: the new state, and (B, chunk) tokens or `NOTHING`."""
  B, first = state.token_B.shape[0], state.written

  def going_on(carry):
    state, _ = carry
    return (state.written < first + chunk) & ~state.over_B.all()

  def step(carry):
    state, tokens_BC = carry
    # What is over goes on without being looked at; at most it stands on the last position.
    positions_B = jnp.minimum(plan.lengths_B - 1 + state.written, model.max_length - 1)
    inputs = state.token_B, jnp.ones_like(positions_B), positions_B
    logits_BV, changed = model.apply(
      {"params": params, "cache": state.cache},
      *(x_B[:, None] for x_B in inputs),
      method=logits,
      mutable=["cache"],
    )
    logits_BV = logits_BV.at[:, list(never)].set(-jnp.inf)
    keys_B = jax.vmap(jax.random.fold_in, (0, None))(plan.keys_B, state.written)
    token_B = sampler(keys_B, logits_BV)
    if shared is not None:
      token_B = jax.lax.with_sharding_constraint(token_B, shared)
    new_B = jnp.where(state.over_B, NOTHING, token_B)
    at = (0, state.written - first)
    tokens_BC = jax.lax.dynamic_update_slice(tokens_BC, new_B[:, None], at)
    written = state.written + 1
    over_B = state.over_B | (token_B == plan.end) | (written >= plan.limits_B)
    return State(changed["cache"], token_B, written, over_B), tokens_BC

  tokens_BC = jnp.full((B, chunk), NOTHING, jnp.int32)
  return jax.lax.while_loop(going_on, step, (state, tokens_BC))


def logits(model, token_B1: Array, segments_B1: Array, positions_B1: Array) -> Array:
  return unembed(model.encode(token_B1, segments_B1, positions_B1), model.table())[:, 0]


def replicated(params: Any) -> NamedSharding | None:
  """Where tokens go when the parameters are spread over a mesh: to every process, to be read."""
  place = getattr(next(iter(jax.tree.leaves(params)), None), "sharding", None)
  spread = isinstance(place, NamedSharding) and place.mesh.size > 1
  return NamedSharding(place.mesh, PartitionSpec()) if spread else None


def power_of_two(n: int, least: int = 16) -> int:
  return max(least, 1 << (n - 1).bit_length())
