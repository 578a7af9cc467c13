"""What ablations of CLIP need besides: words in no order, and arms that differ in what they say."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_experiments import ROOT, arguments

from research import load, models, objectives
from research.arms import arm_of

ABLATIONS = ROOT / "experiments" / "ablations"
FILES = (
  "clip_batch",
  "clip_bias",
  "clip_lit",
  "clip_objectives",
  "clip_patches",
  "clip_prompts",
  "clip_temperature",
)
V, B, L = 7, 5, 6
RANDOM = np.random.RandomState(0)
ENDS = np.array([1, 5, 3, 2, 4], np.int32)
CAPTIONS = np.where(np.arange(L) < ENDS[:, None], RANDOM.randint(1, V, (B, L)), 0).astype(np.int32)


def test_a_bag_of_words_is_the_cross_entropy_with_their_frequencies():
  logits = RANDOM.normal(size=(B, V)).astype(np.float32)
  weights = np.array([1, 1, 1, 1, 0], np.float32)
  batch = {"image": logits, "caption": CAPTIONS, "caption_end": ENDS, "weights": weights}
  model = types.SimpleNamespace(predict_words=jnp.asarray)
  found = objectives.WordBag()(model, batch)["loss"]
  log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
  shares = np.stack([np.bincount(row[:end], minlength=V) / end for row, end in zip(CAPTIONS, ENDS)])
  assert float(found.mean()) == pytest.approx(-(shares * log_p).sum(1)[:4].mean(), rel=1e-5)
  assert float(found.weight) == 4


@pytest.fixture(scope="module")
def words():
  model = models.ImageWords(V, image_size=8, patch=4, embedding=3, width=4, depth=1, heads=1)
  batch = {
    "image": RANDOM.randint(0, 256, (B, 8, 8, 3)).astype(np.uint8),
    "caption": CAPTIONS,
    "caption_end": ENDS,
    "weights": np.ones(B, np.float32),
  }

  def all_of(model):
    image, text = model.encode_image(batch["image"]), None
    text = model.encode_text(batch["caption"], batch["caption_end"])
    return image, text, model.predict_words(batch["image"])

  from flax import linen as nn

  params = nn.meta.unbox(nn.init(all_of, model)(jax.random.key(0)))["params"]
  return model, {"params": params}, batch


def test_a_caption_is_its_words_in_any_order(words):
  model, params, batch = words
  encode = lambda rows: model.apply(params, rows, ENDS, method="encode_text")  # noqa: E731
  turned = np.stack([np.r_[row[:end][::-1], row[end:]] for row, end in zip(CAPTIONS, ENDS)])
  np.testing.assert_allclose(encode(turned), encode(batch["caption"]), atol=1e-6)
  beyond = np.where(np.arange(L) >= ENDS[:, None], 5, CAPTIONS)
  np.testing.assert_array_equal(encode(beyond), encode(CAPTIONS))


def test_the_likeliest_word_is_the_nearest_where_vectors_are_as_long(words):
  model, params, batch = words
  table = params["params"]["words"]["table"]
  alike = {**params["params"], "words": {"table": table / jnp.linalg.norm(table, axis=1)[:, None]}}
  params = {"params": alike}
  logits = model.apply(params, batch["image"], method="predict_words")
  image = model.apply(params, batch["image"], method="encode_image")
  one = np.stack([np.arange(V), np.zeros(V, int)], axis=1).astype(np.int32)
  text = model.apply(params, one, np.ones(V, np.int32), method="encode_text")
  np.testing.assert_array_equal(np.argmax(image @ text.T, axis=1), np.argmax(logits, axis=1))


@pytest.mark.parametrize("name", FILES)
def test_claims_name_arms_of_both_scales(name):
  path = ABLATIONS / f"{name}.py"
  functions = load.functions(path)
  claims = functions["experiment"].__globals__["CLAIMS"]
  assert claims and len({claim.name for claim in claims}) == len(claims)
  for scale in ("experiment", "small"):
    made = load.Recipe(path, scale, arguments(functions[scale]), {}).experiments()
    there = {arm_of(e.name)[0] for e in made}
    for claim in claims:
      assert set(claim.arms()) <= there, (scale, claim.name)
      assert claim.metric.rpartition(".")[0] in made[0].evals


def test_arms_of_a_batch_see_as_many_pairs():
  for name in ("clip_batch", "clip_patches"):
    path = ABLATIONS / f"{name}.py"
    made = load.recipe(f"{path}:small").experiments()
    assert {e.steps * e.batch_size for e in made} == {25_600}
    assert len({e.batch_size for e in made}) == 3


def test_the_tower_is_taken_from_the_other_run_and_texts_are_not():
  made = load.recipe(f"{ABLATIONS / 'clip_lit.py'}:small", ["images=run"]).experiments()
  locked, unlocked, scratch = made[:3]
  leaf = jax.ShapeDtypeStruct((2,), np.float32)
  names = ("image/class", "project_image/kernel", "text/embed/table", "log_scale")
  there = dict.fromkeys(names, leaf)
  for arm in (locked, unlocked):
    match = arm.init_from.match(there, there, "run")
    assert set(match.taken) == {"image/class"} and set(match.new) == set(names[1:])
  assert scratch.init_from is None
  frozen = [arm.optimizer.groups.freezes("image/class") for arm in (locked, unlocked, scratch)]
  assert frozen == [True, False, False]
