"""BERT is Hugging Face's on the same weights, sees no padding, and learns alike on every mesh."""

import itertools
import pathlib

import flax.linen as nn
import hf_ours
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import Experiment, Sharding, load, models, objectives, optim, update
from research.data import pipeline
from research.errors import UserError
from research.mesh import PRESETS, RULES
from research.nn.cross_entropy import cross_entropy
from research.sharding import Layout, use
from research.stacking import unstack

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden" / "bert.npz"
SMALL = models.BERT(vocab_size=40, max_length=16, width=16, depth=2, heads=4, hidden=24)
BOTH = objectives.MaskedTokenAndNextSentence()


@pytest.fixture(scope="module")
def golden():
  found = dict(np.load(GOLDEN))
  return found, {"params": jax.tree.map(jnp.asarray, hf_ours.parameters("bert", SMALL, found))}


def test_logits_are_those_of_hugging_face(golden):
  found, params = golden
  words, following = jax.jit(SMALL.clone(layers="loop").apply)(
    params, found["tokens"], found["segments"]
  )
  real = found["segments"] > 0
  np.testing.assert_allclose(words[real], found["words"][real], atol=1e-5)
  np.testing.assert_allclose(following, found["next_sentence"], atol=1e-5)


def rows(B=16, L=16, T=8, V=40):
  """Pairs of many lengths with up to T places to predict."""
  random = np.random.RandomState(0)
  lengths_B = random.randint(L // 2, L + 1, B)
  index = np.arange(L)
  segments = np.where(index < lengths_B[:, None] // 2, 1, 2) * (index < lengths_B[:, None])
  places = np.zeros((B, T), np.int32)
  for row, length in zip(places, lengths_B):
    count = random.randint(1, T)
    row[:count] = np.sort(1 + random.permutation(length - 1)[:count])
  batch = {
    "tokens": random.randint(0, V, (B, L)),
    "segments": segments,
    "places": places,
    "targets": random.randint(0, V, (B, T)) * (places > 0),
    "random": random.randint(0, 2, B),
  }
  return {name: np.asarray(x, np.int32) for name, x in batch.items()}


def scored(golden, batch, objective=BOTH):
  score = nn.apply(objective, SMALL.clone(layers="loop"))
  measured = jax.jit(score)(golden[1], {name: jnp.asarray(x) for name, x in batch.items()})
  return {name: float(mean.mean()) for name, mean in measured.items()}


def test_the_loss_is_that_of_the_logits_at_the_places(golden):
  """A plain NumPy of the definition: every row's words, and its next sentence once for each."""
  batch = rows()
  words, following = (
    np.asarray(jax.nn.log_softmax(x))
    for x in jax.jit(SMALL.clone(layers="loop").apply)(
      golden[1], batch["tokens"], batch["segments"]
    )
  )
  nats, sentences, both, right = [], [], [], []
  for b in range(len(words)):
    sentences.append(-following[b, batch["random"][b]])
    for place, target in zip(batch["places"][b], batch["targets"][b]):
      if place > 0:
        nats.append(-words[b, place, target])
        right.append(words[b, place].argmax() == target)
        both.append(nats[-1] + sentences[-1])
  measured = scored(golden, batch)
  hits = np.mean(following.argmax(-1) == batch["random"])
  wanted = {
    "loss": np.mean(both),
    "nats": np.mean(nats),
    "accuracy": np.mean(right),
    "next_sentence_nats": np.mean(sentences),
    "next_sentence_accuracy": hits,
  }
  assert measured == pytest.approx(wanted, abs=1e-5)
  alone = scored(golden, batch, objectives.MaskedToken())
  assert alone == pytest.approx({name: wanted[n] for name, n in ALONE.items()}, abs=1e-5)


ALONE = {"loss": "nats", "nats": "nats", "accuracy": "accuracy"}


def test_a_second_segment_is_learned_as_the_only_kind_where_there_is_one():
  model = SMALL.clone(segment_types=1, position_offset=2, layers="loop")
  batch = rows(B=2)
  first = np.minimum(batch["segments"], 1)
  params = nn.meta.unbox(model.init(jax.random.key(0), batch["tokens"]))

  def slope(segments):
    states = lambda p: model.apply(p, batch["tokens"], segments, method="encode")  # noqa: E731
    return jax.grad(lambda p: jnp.sum(states(p)[..., 0]))(params)["params"]["embed_segments"]

  assert (batch["segments"] == 2).any()
  jax.tree.map(np.testing.assert_array_equal, slope(batch["segments"]), slope(first))


def test_what_is_padding_changes_nothing(golden):
  batch = rows()
  noisy = {**batch, "tokens": np.where(batch["segments"] > 0, batch["tokens"], 7)}
  assert (noisy["tokens"] != batch["tokens"]).any()
  one = scored(golden, batch)
  assert scored(golden, noisy) == pytest.approx(one, abs=1e-6)
  empty = {name: np.concatenate([x, np.zeros_like(x[:3])]) for name, x in batch.items()}
  assert scored(golden, empty) == pytest.approx(one, abs=1e-6)
  short = {name: x[batch["segments"][:, -2] == 0] for name, x in batch.items()}
  cut = {**short, "tokens": short["tokens"][:, :-2], "segments": short["segments"][:, :-2]}
  assert scored(golden, cut) == pytest.approx(scored(golden, short), abs=1e-6)


def updated(sharding, devices, microbatches=1):
  """Two steps: the losses and the norms of the gradients, and one name a layer of parameters."""
  experiment = Experiment(
    name="bert",
    data=None,
    model=SMALL,
    objective=BOTH,
    # Adam divides by the root of tiny second moments, which would turn rounding into differences.
    optimizer=optim.SGD(optim.Constant(0.1), clip=1.0),
    steps=2,
    batch_size=16,
    microbatches=microbatches,
    sharding=sharding,
  )
  batch = rows()
  shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()}
  mesh = sharding.make_mesh(jax.devices()[:devices])
  program = update.build(experiment, mesh, shapes)
  state, seen = program.init(), []
  for _ in range(2):
    state, measured = program.step(state, program.place(batch))
    seen += [float(measured["loss"].mean()), float(measured["gradient_norm"].total)]
  return np.array(seen), jax.tree.map(np.asarray, unstack(state.params))


@pytest.fixture(scope="module")
def on_one_device():
  return updated(Sharding({"data": 1}), 1)


# What they split, others split as well: "in pieces", and all of test_presets.py.
SLOW = {"dp", "fsdp", "fsdp_tp", "hsdp", "tp", "context", "pipeline"}


@pytest.mark.parametrize(
  "name",
  [*(pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in PRESETS), "in pieces"],
)
def test_every_mesh_updates_as_one_device(name, on_one_device):
  sharding = PRESETS.get(name, Sharding({"data": 1}))
  pieces = 1 if name in PRESETS else 2
  seen, params = updated(sharding, 8 if name in PRESETS else 1, pieces)
  np.testing.assert_allclose(seen, on_one_device[0], rtol=1e-5)
  for key, array in on_one_device[1].items():
    limit = 1e-5 * np.max(np.abs(array)) + 1e-7
    np.testing.assert_allclose(params[key], array, atol=limit, rtol=0, err_msg=key)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_words_have_a_bias_in_the_loss_on_any_path(smoothing):
  """Of all devices, and of one CPU, which makes the gradients along with the loss."""
  random = np.random.RandomState(0)
  x, table, bias = (jnp.asarray(random.randn(*s), jnp.float32) for s in ((2, 5, 4), (7, 4), (7,)))
  targets, weights = random.randint(0, 7, (2, 5)), jnp.asarray(random.rand(2, 5), jnp.float32)

  def ours(x, table, bias):
    loss = cross_entropy(x, table, targets, weights, bias_V=bias, label_smoothing=smoothing)
    return loss.total

  def plain(x, table, bias):
    logs = jax.nn.log_softmax(x @ table.T + bias)
    wanted = (1 - smoothing) * jax.nn.one_hot(targets, 7) + smoothing / 7
    return -jnp.sum(jnp.sum(wanted * logs, -1) * weights)

  exact = jax.value_and_grad(plain, (0, 1, 2))(x, table, bias)
  with use(Layout(Sharding().make_mesh(jax.devices()[:1]), RULES)):
    found = jax.jit(jax.value_and_grad(ours, (0, 1, 2)))(x, table, bias)
  for result in (found, jax.jit(jax.value_and_grad(ours, (0, 1, 2)))(x, table, bias)):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), result, exact)


@pytest.mark.slow
def test_the_small_twin_learns_words():
  smoke = load.recipe(f"{ROOT}/experiments/bert.py:smoke").experiment()
  source, size = smoke.data.source("train"), smoke.batch_size
  mesh = Sharding({"fsdp": 1, "data": 1}).make_mesh(jax.devices()[:1])
  program = update.build(smoke, mesh, update.abstract_batch(smoke))
  state, nats = program.init(), []
  for batch in itertools.islice(pipeline.batches(source, size, seed=0, threads=0), 20):
    state, measured = program.step(state, program.place(batch))
    nats.append(float(measured["nats"].mean()))
  assert nats[0] == pytest.approx(np.log(512), abs=0.2)  # an even guess
  assert np.mean(nats[-4:]) < nats[0] - 1


@pytest.mark.parametrize(
  ("changes", "says"),
  [
    ({"heads": 3}, "heads=3 does not divide width=16"),
    ({"activation": "swiglu"}, "activation='swiglu' is not one of"),
    ({"dropout": 1.0}, "dropout=1.0 is a probability"),
    ({"max_length": 15}, "a sequence of 16 tokens is longer than the model's max_length=15"),
  ],
)
def test_numbers_that_do_not_fit_are_told(changes, says):
  model = SMALL.clone(**changes)
  with pytest.raises(UserError, match=says):
    jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16), jnp.int32))
