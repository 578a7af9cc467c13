"""What is wrong with two towers is measured, and told in words."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from research import metrics, objectives
from research.diagnosis import diagnoses

N, E = 8, 5


def told(image, text, caption=None, scale=20.0, alike=(), padding=(6, 7)):
  """The diagnoses of a model that gives these vectors, and what they follow from."""
  model = types.SimpleNamespace(
    encode_image=lambda image: image,
    encode_text=lambda caption, end: jnp.asarray(text),
    scale=lambda: jnp.float32(scale),
    largest_scale=100.0,
  )
  weights = np.ones(N, np.float32)
  weights[list(padding)] = 0
  batch = {
    "image": image,
    "caption": np.arange(N)[:, None] if caption is None else caption,
    "caption_end": np.zeros(N, int),
    "weights": weights,
  }
  health = objectives.PairHealth(objectives.InfoNCE(alike))
  values = metrics.means(health(model, batch))
  return diagnoses(values), values


@pytest.fixture
def good():
  vectors = np.random.RandomState(0).normal(size=(N, E)).astype(np.float32)
  return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_of_what_is_well_nothing_is_said(good):
  lines, values = told(good, good)
  assert lines == []
  cosines = good[:6] @ good[:6].T
  others = cosines[~np.eye(6, dtype=bool)]
  assert values["image_likeness"] == pytest.approx(others.mean(), abs=1e-5)
  scores = 20.0 * cosines
  shuffled = scores[:, np.roll(np.arange(6), -1)]  # the caption of the next
  loss = 0.0
  for axis in (0, 1):
    loss -= np.mean(np.diag(shuffled - np.log(np.exp(shuffled).sum(axis, keepdims=True)))) / 2
  assert values["shuffled_loss"] == pytest.approx(loss, rel=1e-4)


def test_it_does_not_matter_where_the_padding_is(good):
  first, inside = told(good, good[::-1])[1], [6, 0, 1, 7, 2, 3, 4, 5]  # the last two came elsewhere
  moved = told(good[inside], good[::-1][inside], padding=(0, 3))[1]
  assert moved == pytest.approx(first, rel=1e-5)


def test_a_tower_that_has_collapsed_is_named(good):
  same = np.broadcast_to(good[0], good.shape)
  lines, _ = told(same, good)
  assert any("the image tower has collapsed" in line for line in lines)
  assert any(line.startswith("plateau: the loss 1.") for line in told(same, same)[0])
  assert any("captions do not matter" in line for line in told(good, same)[0])


def test_the_bound_of_the_temperature_is_told(good):
  assert any("at its bound (scale 100)" in line for line in told(good, good, scale=100.0)[0])


def test_captions_that_repeat_are_told_until_the_objective_knows(good):
  caption = np.array([0, 1, 1, 3, 4, 5, 5, 5])[:, None]  # the last two are padding
  lines, values = told(good, good, caption)
  assert values["repeated_captions"] == pytest.approx(2 / 6)
  assert any("33 % of the captions are said of more than one picture" in line for line in lines)
  assert told(good, good, caption, alike=("caption",))[0] == []


def test_the_figures_of_other_evaluations_say_nothing():
  assert diagnoses({"loss": 4.0, "of_chance": 1.0}) == []
