"""CLIP: its towers are Hugging Face's, its loss is that of the whole batch on any mesh."""

import dataclasses
import importlib.util
import math
import pathlib

import hf_ours
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research import Experiment, Sharding, models, objectives, optim, update
from research.errors import UserError
from research.mesh import PRESETS
from research.models.clip import at_most
from research.stacking import unstack

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden" / "clip.npz"
B, L, V = 16, 7, 40
TINY = models.CLIP(
  vocab_size=V,
  max_length=L,
  image_size=12,
  patch=4,
  embedding=8,
  image_width=16,
  image_depth=2,
  image_heads=2,
  text_width=16,
  text_depth=2,
  text_heads=4,
)


def batch():
  random = np.random.RandomState(0)
  return {
    "image": random.randint(0, 256, (B, 12, 12, 3)).astype(np.uint8),
    "caption": random.randint(0, V, (B, L)).astype(np.int32),
    "caption_end": random.randint(1, L, B).astype(np.int32),
    "weights": np.ones(B, np.float32),
  }


@pytest.fixture(scope="module")
def golden():
  return dict(np.load(GOLDEN))


@pytest.fixture(scope="module")
def params(golden):
  return {"params": jax.tree.map(jnp.asarray, hf_ours.parameters("clip", TINY, golden))}


def test_both_towers_are_those_of_hugging_face(golden, params):
  model = TINY.clone(layers="loop")
  image = model.apply(params, golden["image"], method="encode_image")
  text = model.apply(params, golden["caption"], golden["ends"], method="encode_text")
  np.testing.assert_allclose(image, golden["image_embeds"], atol=1e-5)
  np.testing.assert_allclose(text, golden["text_embeds"], atol=1e-5)
  logits = model.apply(params, method="scale") * image @ text.T
  np.testing.assert_allclose(logits, golden["logits_per_image"], atol=1e-4)


def test_what_stands_after_the_end_of_a_caption_changes_nothing(golden, params):
  encode = jax.jit(lambda caption, ends: TINY.apply(params, caption, ends, method="encode_text"))
  caption, ends = golden["caption"], golden["ends"]
  after = np.arange(L) > ends[:, None]
  before = np.arange(L) == ends[:, None] - 1
  plain = encode(caption, ends)
  np.testing.assert_array_equal(encode(np.where(after, 5, caption), ends), plain)
  assert not np.allclose(encode(np.where(before, 5, caption), ends), plain, atol=1e-3)


@pytest.mark.parametrize(
  ("size", "published"), [("B/32", 151_277_313), ("B/16", 149_620_737), ("L/14", 427_616_513)]
)
def test_the_experiment_has_as_many_parameters_as_the_published_models(size, published):
  spec = importlib.util.spec_from_file_location("clip", ROOT / "experiments" / "clip.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  made = module.experiment(size=size)
  rows = {name: np.repeat(x, 2, axis=0) for name, x in made.data.example().items()}
  init = nn.init(made.objective, made.model.clone(layers="scan"))
  shapes = jax.eval_shape(init, jax.random.key(0), rows)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == published


def test_the_scale_stops_at_its_bound_and_can_leave_it():
  limit = math.log(100.0)
  slope = jax.grad(lambda x, sign: sign * at_most(x, limit))
  assert at_most(jnp.float32(9.0), limit) == pytest.approx(limit)
  assert slope(9.0, -1.0) == 0  # descent would raise it further
  assert slope(9.0, 1.0) == 1
  assert slope(1.0, -1.0) == -1


def experiment(sharding, objective=None, **model):
  return Experiment(
    name="clip",
    data=None,
    model=TINY.clone(**model),
    objective=objective or objectives.InfoNCE(),
    # Adam divides by the root of tiny second moments, which would turn rounding into differences.
    optimizer=optim.SGD(optim.Constant(0.1), clip=1.0),
    steps=2,
    batch_size=B,
    sharding=sharding,
  )


def updated(experiment, devices):
  """Two steps: losses and norms, and the parameters under one name a layer."""
  rows = batch()
  mesh = experiment.sharding.make_mesh(jax.devices()[:devices])
  shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in rows.items()}
  program = update.build(experiment, mesh, shapes)
  state, losses = program.init(), []
  for _ in range(2):
    state, measured = program.step(state, program.place(rows))
    losses.append(float(measured["loss"].mean()))
    losses.append(float(measured["gradient_norm"].total))
  return np.array(losses), jax.tree.map(np.asarray, unstack(state.params))


ONE = Sharding({"data": 1})


@pytest.fixture(scope="module")
def on_one_device():
  return updated(experiment(ONE), 1)


def same(ours, one):
  np.testing.assert_allclose(ours[0], one[0], rtol=1e-5)
  assert ours[1].keys() == one[1].keys()
  for name, array in one[1].items():
    limit = 1e-5 * np.max(np.abs(array)) + 1e-6
    np.testing.assert_allclose(ours[1][name], array, atol=limit, rtol=0, err_msg=name)


SLOW = ("dp", "fsdp", "hsdp", "tp", "context", "pipeline")  # what they split is split by others too


@pytest.mark.parametrize(
  "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in PRESETS]
)
def test_every_mesh_updates_as_one_device(name, on_one_device):
  same(updated(experiment(PRESETS[name], layers="scan"), 8), on_one_device)


def test_microbatches_are_the_whole_batch(on_one_device):
  cut = dataclasses.replace(experiment(ONE, layers="scan"), microbatches=4)
  same(updated(cut, 1), on_one_device)


@pytest.mark.slow
def test_microbatches_on_a_mesh_are_the_whole_batch(on_one_device):
  cut = experiment(PRESETS["hsdp"], layers="scan", remat="full")
  same(updated(dataclasses.replace(cut, microbatches=2), 8), on_one_device)


def test_the_sigmoid_loss_wants_a_bias():
  with pytest.raises(UserError, match=r"give model\.bias=-10\.0"):
    updated(experiment(ONE, objectives.SigmoidLoss()), 1)


@pytest.mark.slow
def test_the_sigmoid_loss_over_devices_in_microbatches_is_that_of_one():
  one = experiment(ONE, objectives.SigmoidLoss(), bias=-2.0)
  many = experiment(PRESETS["hsdp"], objectives.SigmoidLoss(), bias=-2.0)
  same(updated(dataclasses.replace(many, microbatches=2), 8), updated(one, 1))
