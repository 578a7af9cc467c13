"""What a frozen tower sees is computed once, and trains as the pictures themselves do."""

import dataclasses
import json

import jax
import numpy as np
import PIL.Image
import pytest
from flax import linen as nn
from test_retrieve import run  # noqa: F401 (a fixture)

from research import Features, data, preflight, record
from research.errors import UserError
from research.features import _Tower
from research.retrieve.towers import Towers

SMALL = data.Shapes(image_size=16, length=48, examples=12, heldout=6)


def test_features_are_encoded_as_their_pictures(run):  # noqa: F811
  towers, numbers = Towers(run), np.arange(12)
  made = towers.experiment
  rows = [x.source("train").take(numbers, 0) for x in (SMALL, Features(SMALL, str(run), rows=5))]
  assert rows[1]["image"].shape == (12, 8)
  seen, kept = (towers.encoder.images(x["image"]) for x in rows)
  np.testing.assert_allclose(kept, seen, atol=1e-5)
  # The tower stays a part of the model, for whoever is given pictures later.
  init = nn.init(made.objective, made.model)
  trees = [jax.tree.structure(jax.eval_shape(init, jax.random.key(0), x)) for x in rows]
  assert trees[0] == trees[1]


def test_features_are_kept_for_each_view_and_computed_once(run, monkeypatch):  # noqa: F811
  features = Features(SMALL, str(run), views=2)
  source = features.source("train")
  first, second, third = (source.take(np.array([3, 1]), epoch) for epoch in range(3))
  assert first["image"].shape == (2, *features.example()["image"].shape[1:])
  assert not np.allclose(first["image"], second["image"])
  np.testing.assert_array_equal(first["image"], third["image"])
  np.testing.assert_array_equal(
    first["caption"], SMALL.source("train").take(np.array([3, 1]), 0)["caption"]
  )
  monkeypatch.setattr(_Tower, "__call__", lambda *_: pytest.fail("seen again"))
  np.testing.assert_array_equal(
    features.source("train").take(np.array([3, 1]), 0)["image"], first["image"]
  )
  with pytest.raises(BaseException, match="seen again"):  # another preprocessing is another cache
    Features(dataclasses.replace(SMALL, seed=1), str(run)).source("train")


def test_a_caption_that_was_edited_is_not_served_as_it_was(run, tmp_path):  # noqa: F811
  PIL.Image.new("RGB", (16, 16)).save(tmp_path / "x.png")
  pictures = data.Captioned(str(tmp_path / "pairs.jsonl"), str(tmp_path))
  pairs = data.ImageText(pictures, data.Bytes(), 16, 16, split=data.ByHash(0.0))
  numbers = np.arange(200)  # a look at the source sees 64 of them

  def read(captions):
    lines = [json.dumps({"image": "x.png", "caption": caption}) for caption in captions]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    return Features(pairs, str(run)).source("train").take(numbers, 0)["caption"]

  captions = [f"picture {i:03}" for i in numbers]
  before, after = read(captions), read([captions[0], "drawing 001", *captions[2:]])
  np.testing.assert_array_equal(np.flatnonzero((before != after).any(axis=1)), [1])


def test_tokens_beyond_the_table_of_the_model_are_refused_with_features_too(run):  # noqa: F811
  made = Towers(run).experiment
  small = made.model.clone(vocab_size=200)
  with pytest.raises(UserError, match="vocab_size=200 has no room for the 257 tokens"):
    preflight.together(dataclasses.replace(made, data=Features(SMALL, str(run)), model=small))


def test_a_run_with_features_is_searched_by_words_where_its_tower_is_gone(run, monkeypatch):  # noqa: F811
  opened, kept = record.open_run, record.open_run(run)
  made = dataclasses.replace(kept[0], data=Features(SMALL, "runs/gone"))
  monkeypatch.setattr(
    record, "open_run", lambda path: (made, kept[1]) if path == run else opened(path)
  )
  assert Towers(run).words.length == 48


def test_a_run_without_a_tower_is_told(tmp_path):
  with pytest.raises(UserError, match="holds no run"):
    Features(SMALL, str(tmp_path)).source("train")
  with pytest.raises(UserError, match="views=0 must be at least 1"):
    Features(SMALL, "runs/x", views=0)
