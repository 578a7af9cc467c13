"""The encoder-decoder is what its papers write, sees what it may, and decodes as it reads."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import Experiment, Sharding, models, objectives, optim, update
from research.errors import UserError
from research.nn.attention import attend
from research.nn.cross_entropy import unembed
from research.nn.masks import Mask
from research.nn.positions import bucket, sinusoidal
from research.stacking import unstack

SMALL = models.Transformer(vocab_size=24, max_length=16, width=16, depth=1, heads=4, hidden=24)
T5 = {
  "norm": "rms",
  "norm_position": "pre",
  "positions": "relative",
  "buckets": 8,
  "farthest": 12,
  "bias": False,
  "scale_embedding": False,
  "scale_scores": False,
  "scale_states": True,
  "key_size": 8,
}
MODELS = {
  "transformer": SMALL,
  "t5": SMALL.clone(**T5),
  "t5_1_1": SMALL.clone(**T5 | {"activation": "geglu", "tied": False, "scale_states": False}),
  "bart": SMALL.clone(
    decoder_depth=2,
    source_vocab_size=32,
    activation="gelu_exact",
    positions="learned",
    position_offset=2,
    embed_norm=True,
    scale_embedding=False,
    word_bias=True,
  ),
}
DEEP = MODELS["t5"].clone(depth=2, layers="scan")
SOURCE = np.random.RandomState(0).randint(0, 24, (3, 16)).astype(np.int32)
TARGET = np.random.RandomState(1).randint(0, 24, (3, 8)).astype(np.int32)
# Row 0 holds two pairs, row 1 a short one, row 2 one that fills it.
SOURCE_SEGMENTS = np.repeat([[1, 2, 0], [1, 0, 0], [1, 1, 1]], [7, 6, 3], axis=1).astype(np.int32)
SEGMENTS = np.repeat([[1, 2], [1, 0], [1, 1]], [3, 5], axis=1).astype(np.int32)
INPUTS = SOURCE, TARGET, SOURCE_SEGMENTS, SEGMENTS


def moved(model):
  """Parameters off their initial values, so that no zero and no one hides anything."""
  params = nn.meta.unbox(jax.jit(model.init)(jax.random.key(0), *INPUTS))["params"]
  leaves, tree = jax.tree.flatten(params)
  random = np.random.RandomState(2)
  return tree.unflatten([x + 0.2 * random.randn(*x.shape).astype(np.float32) for x in leaves])


ALIKE = "t5"  # but for its MLP, t5_1_1 has what it has
PARAMS = [pytest.param(n, marks=[pytest.mark.slow] * (n == ALIKE)) for n in MODELS]


@pytest.fixture(scope="module", params=PARAMS)
def model(request):
  model = MODELS[request.param].clone(layers="loop")
  return model, moved(model)


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, *inputs):
  return model.apply({"params": params}, *inputs)


def logits(*inputs):
  return np.asarray(apply(*inputs))


def test_a_target_sees_its_source_and_what_stands_before_and_nothing_else(model):
  """Each token is changed in turn; what changes with it is what may see it."""
  before = logits(*model, *INPUTS)

  def changes(changed_source, changed_target):
    after = logits(*model, changed_source, changed_target, *INPUTS[2:])
    return np.abs(after - before).max(-1) > 0

  for place in range(16):
    other = SOURCE.copy()
    other[:, place] = (other[:, place] + 1) % 24
    own = SOURCE_SEGMENTS[:, place][:, None]
    np.testing.assert_array_equal(changes(other, TARGET), (own == SEGMENTS) & (SEGMENTS > 0))
  for place in range(8):
    other = TARGET.copy()
    other[:, place] = (other[:, place] + 1) % 24
    own = SEGMENTS[:, place][:, None]
    later = np.arange(8) >= place
    seen = changes(SOURCE, other)
    # A token of padding sees itself, through the residual stream.
    np.testing.assert_array_equal(seen & (SEGMENTS > 0), (own == SEGMENTS) & (own > 0) & later)


def test_packed_pairs_are_predicted_as_when_they_are_alone(model):
  packed = logits(*model, *INPUTS)
  for segment in (1, 2):
    source = SOURCE[:1, SOURCE_SEGMENTS[0] == segment]
    target = TARGET[:1, SEGMENTS[0] == segment]
    alone = logits(*model, source, target)
    np.testing.assert_allclose(packed[:1, SEGMENTS[0] == segment], alone, atol=2e-5)


def test_token_by_token_is_as_all_at_once(model):
  """Without a memory to look at: its keys and values are in the cache since the first token."""
  model, params = model
  segments = (SOURCE_SEGMENTS == 1) + 0
  at_once = logits(model, params, SOURCE, TARGET, segments)
  memory = model.apply({"params": params}, SOURCE, segments, method="encode")

  def read(model, token, memory):
    x = model.decode(token, memory, segments)
    return unembed(x, model.table(), model.biases())

  step = jax.jit(lambda v, *inputs: model.apply(v, *inputs, method=read, mutable=["cache"]))
  cache, found = {}, []
  for place in range(TARGET.shape[1]):
    y, cache = step({"params": params, **cache}, TARGET[:, place : place + 1], memory)
    found.append(y)
    memory = np.full_like(memory, np.nan)
  np.testing.assert_allclose(np.concatenate(found, axis=1), at_once, atol=2e-5)


def test_scanned_layers_are_looped_layers():
  model = MODELS["t5"].clone(depth=2, layers="loop")
  params = moved(model)
  stacked = {
    name: {"0::1": jax.tree.map(lambda *x: np.stack(x), part["0"], part["1"])}
    if name in ("encoder", "decoder")
    else part
    for name, part in params.items()
  }
  scanned = logits(model.clone(layers="scan", remat="full"), stacked, *INPUTS)
  np.testing.assert_allclose(scanned, logits(model, params, *INPUTS), atol=1e-5)


def test_one_layer_is_the_paper_s():
  """Vaswani et al., sections 3.1 to 3.5, written out in NumPy for one layer on each side."""
  model = SMALL.clone(layers="loop")
  params = moved(model)

  def norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]

  def attention(x, memory, p, visible):
    q, k, v = (
      np.einsum("ld,dhk->hlk", y, p[name]["kernel"]) + p[name]["bias"][:, None]
      for name, y in (("query", x), ("key", memory), ("value", memory))
    )
    scores = np.where(visible, q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1]), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    y = weights / weights.sum(-1, keepdims=True) @ v
    return np.einsum("hlk,hkd->ld", y, p["out"]["kernel"]) + p["out"]["bias"]

  def feed_forward(x, p):
    hidden = np.maximum(x @ p["up"]["kernel"] + p["up"]["bias"], 0)
    return hidden @ p["down"]["kernel"] + p["down"]["bias"]

  def embedded(tokens):
    angles = np.arange(len(tokens))[:, None] / 10_000 ** (np.arange(0, 16, 2) / 16)
    positions = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return params["embed"]["table"][tokens] * 4 + positions

  encoder, decoder = params["encoder"]["0"], params["decoder"]["0"]
  x = embedded(SOURCE[0])
  x = norm(x + attention(x, x, encoder["attention"], True), encoder["attention_norm"])
  memory = norm(x + feed_forward(x, encoder["mlp"]), encoder["mlp_norm"])
  y = embedded(TARGET[0])
  causal = np.tri(8, dtype=bool)
  y = norm(y + attention(y, y, decoder["attention"], causal), decoder["attention_norm"])
  crossed = attention(y, memory, decoder["cross_attention"], True)
  y = norm(y + crossed, decoder["cross_attention_norm"])
  y = norm(y + feed_forward(y, decoder["mlp"]), decoder["mlp_norm"])
  expected = y @ params["embed"]["table"].T
  np.testing.assert_allclose(logits(model, params, SOURCE[:1], TARGET[:1])[0], expected, atol=2e-5)


def test_positions_are_sines_and_cosines():
  x = np.asarray(sinusoidal(np.array([0, 3]), 8))
  rates = 10_000 ** -(np.arange(4) / 4)
  np.testing.assert_allclose(x[0], [0, 0, 0, 0, 1, 1, 1, 1])
  np.testing.assert_allclose(x[1], [*np.sin(3 * rates), *np.cos(3 * rates)], rtol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("buckets, farthest", [(32, 128), (8, 12), (64, 1000)])
def test_buckets_of_distances_are_t5_s(causal, buckets, farthest):
  """`_relative_position_bucket` of the paper's code, one distance at a time."""

  def of(distance):
    found, count = 0, buckets
    if not causal:
      count //= 2
      found += count if distance > 0 else 0
      distance = abs(distance)
    else:
      distance = max(-distance, 0)
    exact = count // 2
    if distance < exact:
      return found + distance
    ratio = np.log(np.float32(distance) / np.float32(exact)) / np.float32(
      math.log(farthest / exact)
    )
    return found + min(exact + int(ratio * (count - exact)), count - 1)

  distances = np.arange(-2 * farthest, 2 * farthest)
  made = bucket(jnp.asarray(distances), buckets=buckets, farthest=farthest, causal=causal)
  assert np.asarray(made).tolist() == [of(int(distance)) for distance in distances]


def test_a_bias_is_added_to_the_scores_of_its_head():
  random = np.random.RandomState(0)
  q, k, v = (random.randn(2, 6, 4, 8).astype(np.float32) for _ in range(3))
  bias = random.randn(1, 4, 6, 6).astype(np.float32)
  scores = np.einsum("blhk,bmhk->bhlm", q, k) * 0.3 + bias
  scores = np.where(np.tri(6, dtype=bool), scores, -np.inf)
  weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
  expected = np.einsum("bhlm,bmhk->blhk", weights, v)
  y = attend(q, k, v, Mask(causal=True), bias_BHLM=jnp.asarray(bias), scale=0.3)
  np.testing.assert_allclose(y, expected, atol=1e-5)


def test_smoothing_spreads_over_all_words_and_padding_weighs_nothing():
  objective = objectives.TargetToken(label_smoothing=0.1)
  model = MODELS["bart"].clone(layers="loop")
  params = moved(model)
  batch = batch_of(*INPUTS)
  measured = jax.jit(nn.apply(objective, model))({"params": params}, batch)
  log_probs = np.asarray(jax.nn.log_softmax(logits(model, params, *INPUTS)))
  real = SEGMENTS > 0
  of_target = -np.take_along_axis(log_probs, batch["targets"][..., None], axis=-1)[..., 0]
  smooth = 0.9 * of_target - 0.1 * log_probs.mean(-1)
  np.testing.assert_allclose(measured["loss"].mean(), smooth[real].mean(), rtol=1e-5)
  np.testing.assert_allclose(measured["nats"].mean(), of_target[real].mean(), rtol=1e-5)
  assert float(measured["loss"].weight) == real.sum()


def batch_of(source, target, source_segments, segments):
  def positions(segments):
    same = segments[:, :, None] == segments[:, None, :]
    return (np.tril(same).sum(-1) - 1).astype(np.int32)

  return {
    "source": source,
    "source_segments": source_segments,
    "source_positions": positions(source_segments),
    "tokens": target,
    "targets": np.roll(target, -1, axis=1),
    "segments": segments,
    "positions": positions(segments),
  }


def big_batch():
  pick = np.random.RandomState(3).randint(0, 3, 16)
  random = np.random.RandomState(4)
  batch = batch_of(*(x[pick] for x in INPUTS))
  for name in ("source", "tokens", "targets"):
    batch[name] = random.randint(0, 24, batch[name].shape).astype(np.int32)
  return batch


def updated(model, layout, microbatches=1):
  experiment = Experiment(
    name="test",
    data=None,
    model=model,
    objective=objectives.TargetToken(label_smoothing=0.1),
    optimizer=optim.SGD(1.0),
    batch_size=16,
    microbatches=microbatches,
    sharding=layout,
  )
  batch = big_batch()
  mesh = layout.make_mesh(jax.devices()[: math.prod(layout.mesh.values())])
  program = update.build(experiment, mesh, batch)
  state, measured = program.step(program.init(), program.place(batch, 16))
  arrays = {name: np.asarray(x) for name, x in unstack(state.params).items()}
  return arrays, float(measured["loss"].mean())


@pytest.mark.parametrize(
  "mesh",
  [
    {"data": 2, "fsdp": 2, "tensor": 2},
    pytest.param({"data": 2, "context": 2, "tensor": 2}, marks=pytest.mark.slow),
    pytest.param({"stage": 2, "data": 4}, marks=pytest.mark.slow),
  ],
  ids=lambda mesh: "_".join(mesh),
)
def test_eight_devices_match_one(mesh, one_device):
  many, loss = updated(DEEP, Sharding(mesh), 2 if "fsdp" in mesh else 1)
  arrays, their_loss = one_device
  assert loss == pytest.approx(their_loss, rel=1e-5)
  for path, x in arrays.items():
    np.testing.assert_allclose(many[path], x, atol=2e-5, err_msg=path)


@pytest.fixture(scope="module")
def one_device():
  return updated(DEEP, Sharding({"data": 1}))


@pytest.mark.parametrize(
  "change, says",
  [
    ({"positions": "rotary"}, "positions='rotary' is not one of sinusoidal, learned, relative"),
    ({"heads": 3}, "heads=3 does not divide width=16"),
    ({"dropout": 1.0}, "dropout=1.0 is a probability"),
    ({"positions": "relative", "buckets": 6}, "buckets=6 are halved twice"),
    ({"positions": "relative", "farthest": 16}, "farthest=16: 16 distances"),
    ({"max_length": 12}, "a source of 16 tokens is longer than the model's max_length=12"),
    ({"activation": "gelo"}, "Did you mean 'gelu'"),
  ],
)
def test_numbers_that_do_not_fit_are_told(change, says):
  with pytest.raises(UserError, match=says.replace("(", r"\(")):
    jax.eval_shape(SMALL.clone(**change).init, jax.random.key(0), *INPUTS)
