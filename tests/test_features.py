"""What a frozen tower sees is computed once, and trains as the pictures themselves do."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import linen as nn
from test_retrieve import run  # noqa: F401 (a fixture)

from research import Features, data
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


def test_a_run_without_a_tower_is_told(tmp_path):
  with pytest.raises(UserError, match="holds no run"):
    Features(SMALL, str(tmp_path)).source("train")
  with pytest.raises(UserError, match="views=0 must be at least 1"):
    Features(SMALL, "runs/x", views=0)
