"""The decoder: causal, packed, cached, scanned."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.models import GPT

V, L = 40, 16
SMALL = GPT(vocab_size=V, max_length=L, width=16, depth=2, heads=4)
MODERN = dict(norm="rms", positions="rotary", activation="swiglu", bias=False, tied=False)
VARIANTS = {
  "gpt1": SMALL.clone(norm_position="post"),
  "gpt2": SMALL,
  "gpt3": SMALL.clone(windows=(None, 3)),
  "modern": SMALL.clone(**MODERN, kv_heads=2),
}
TOKENS = np.random.default_rng(0).integers(0, V, (2, L), np.int32)

variants = pytest.mark.parametrize("model", VARIANTS.values(), ids=VARIANTS)
unrollings = pytest.mark.parametrize("layers", ["loop", "scan"])


def parameters(model, seed=0):
  """Random ones, larger than those that training starts from: every one should matter."""
  abstract = nn.meta.unbox(jax.eval_shape(model.init, jax.random.key(0), TOKENS))["params"]
  leaves, structure = jax.tree.flatten(abstract)
  random = np.random.default_rng(seed)
  values = [jnp.asarray(0.2 * random.standard_normal(x.shape), x.dtype) for x in leaves]
  return jax.tree.unflatten(structure, values)


def apply(model, params, *inputs):
  return jax.jit(model.apply)({"params": params}, *inputs)


@variants
def test_a_prediction_does_not_depend_on_the_future(model):
  params = parameters(model)
  # Every position has a word of its own, so that the gradient of the table is that of the inputs.
  model, tokens = model.clone(vocab_size=L), jnp.arange(L)[None]

  def state(table_LD, i):
    changed = {**params, "embed": {"table": table_LD}}
    return model.apply({"params": changed}, tokens, method="encode")[0, i].sum()

  table_LD = params["embed"]["table"][:L]
  gradient = jax.jit(jax.vmap(jax.grad(state), (None, 0)))(table_LD, jnp.arange(L))
  reach = np.abs(gradient).max(axis=-1)  # of every position on every prediction
  assert (np.triu(reach, 1) == 0).all()
  assert (np.diag(reach) > 0).all()


@variants
def test_documents_in_one_row_do_not_see_each_other(model):
  params = parameters(model)
  segments = np.array([[1] * 5 + [2] * 5 + [3] * 5 + [0]])
  packed = apply(model, params, TOKENS[:1], segments, np.arange(L)[None] % 5)
  for start in (0, 5, 10):
    alone = apply(model, params, TOKENS[:1, start : start + 5])
    np.testing.assert_allclose(packed[:, start : start + 5], alone, atol=2e-5)


def test_positions_are_counted_where_not_given():
  segments = np.array([[1] * 4 + [2] * 5 + [0] * 7, [0] * 3 + [1] * 13])
  positions = np.array([[*range(4), *range(5), *[0] * 7], [0, 0, 0, *range(13)]])
  params = parameters(SMALL)
  counted = apply(SMALL, params, TOKENS, segments)
  given = apply(SMALL, params, TOKENS, segments, positions)
  np.testing.assert_allclose(counted, given, atol=1e-6)


@unrollings
@variants
def test_decoding_with_a_cache_is_the_full_forward(model, layers):
  model = model.clone(layers=layers)
  params = parameters(model)
  step = jax.jit(lambda variables, tokens: model.apply(variables, tokens, mutable=["cache"]))
  pieces, cache, starts = [], {}, [0, *range(5, 13)]
  if model.windows:
    starts = [0, 5, 7]  # also some tokens at once, after others
  for start, stop in itertools.pairwise([*starts, 13]):
    logits, cache = step({"params": params, **cache}, TOKENS[:, start:stop])
    pieces.append(logits)
  full = apply(model, params, TOKENS)[:, :13]
  np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), full, atol=2e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["gpt3", "modern"])
def test_prompts_of_different_length_decode_together(name, side):
  model = VARIANTS[name]
  params = parameters(model)
  step = jax.jit(
    lambda cache, *inputs: model.apply({"params": params, **cache}, *inputs, mutable=["cache"])
  )
  short, long, rest = TOKENS[0, :3], TOKENS[1, :6], TOKENS[:, 6:10]
  pad = (3, 0) if side == "left" else (0, 3)
  prompts = np.stack([np.pad(short, pad), long])
  present = np.stack([np.pad(np.ones(3, np.int32), pad), np.ones(6, np.int32)])
  _, cache = step({}, prompts, present)
  logits = []
  for i in range(4):
    row, cache = step(cache, rest[:, i : i + 1])
    logits.append(row)
  together = jnp.concatenate(logits, axis=1)
  for row, prompt in enumerate((short, long)):
    alone = apply(model, params, np.concatenate([prompt, rest[row]])[None])
    np.testing.assert_allclose(together[row], alone[0, len(prompt) :], atol=2e-5)


def restack(params, p):
  """Looped layers as scanned ones of period p."""
  blocks = params["blocks"]
  kinds = {f"{j}::{p}": [blocks[str(i)] for i in range(j, len(blocks), p)] for j in range(p)}
  stacked = {name: jax.tree.map(lambda *x: jnp.stack(x), *kind) for name, kind in kinds.items()}
  return {**params, "blocks": stacked}


def value_and_gradient(model, params):
  def loss(params):
    rngs = {"dropout": jax.random.key(1, impl="rbg")}  # compiles sooner than the default
    return jnp.mean(model.apply({"params": params}, TOKENS, rngs=rngs) ** 2)

  return jax.jit(jax.value_and_grad(loss))(params)


def assert_close(a, b):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), a, b)


@pytest.mark.parametrize(
  "looped", [VARIANTS["gpt3"].clone(depth=4), VARIANTS["modern"].clone(dropout=0.1)]
)
def test_scanned_layers_are_looped_layers(looped):
  looped = looped.clone(layers="loop")
  p = len(looped.windows) or 1
  params = parameters(looped)
  value, gradient = value_and_gradient(looped, params)
  scanned = value_and_gradient(looped.clone(layers="scan"), restack(params, p))
  assert_close(scanned, (value, restack(gradient, p)))


def test_scanned_and_looped_layers_start_from_the_same_parameters():
  looped = VARIANTS["gpt3"].clone(depth=4, layers="loop")
  initial = [
    nn.meta.unbox(jax.jit(model.init)(jax.random.key(0, impl="rbg"), TOKENS)["params"])
    for model in (looped, looped.clone(layers="scan"))
  ]
  jax.tree.map(np.testing.assert_array_equal, restack(initial[0], 2), initial[1])
  kernel = initial[1]["blocks"]["0::2"]["mlp"]["up"]["kernel"]
  assert (kernel[0] != kernel[1]).all()


@pytest.mark.parametrize("remat", ["full", "save_dots", "save_qkv", "minimal"])
def test_recomputing_changes_nothing(remat):
  model = VARIANTS["modern"].clone(layers="scan")
  params = parameters(model)
  assert_close(value_and_gradient(model.clone(remat=remat), params), remembered())


@functools.cache
def remembered():
  model = VARIANTS["modern"].clone(layers="scan")
  return value_and_gradient(model, parameters(model))


def test_bfloat16_is_close_to_float32():
  model = VARIANTS["modern"]
  params = jax.tree.map(lambda x: x / 2, parameters(model))
  exact = apply(model, params, TOKENS)
  rounded = apply(model.clone(dtype="bfloat16"), params, TOKENS)
  assert rounded.dtype == jnp.float32
  assert np.abs(rounded - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"heads": 5}, "heads=5 does not divide width=16; choose one of 1, 2, 4, 8, 16"),
    ({"kv_heads": 3}, "kv_heads=3 does not divide heads=4"),
    ({"norm": "layr"}, "norm='layr' is not one of layer, rms. Did you mean 'layer'?"),
    ({"depth": 0}, "depth=0 must be at least 1"),
    ({"dropout": 1.5}, "dropout=1.5 is a probability"),
    ({"heads": 16, "positions": "rotary"}, "is odd"),
    ({"windows": (None, 2, 3), "layers": "scan"}, "choose a multiple of 3"),
    ({"windows": (None, 0)}, "each must be at least 1"),
    ({"max_length": 8}, "16 tokens is longer than the model's max_length=8"),
  ],
)
def test_numbers_that_do_not_fit_say_so(changes, message):
  with pytest.raises(UserError, match=message.replace("?", r"\?")):
    jax.eval_shape(SMALL.clone(**changes).init, jax.random.key(0), TOKENS)
