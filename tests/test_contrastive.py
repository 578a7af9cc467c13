"""Losses over all pairs of a batch: what one counts pair by pair, in any pieces and on any mesh."""

import contextlib
import dataclasses
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import objectives, sharding
from research.errors import UserError
from research.mesh import Sharding
from research.objectives import positives, seen
from research.objectives.seen import Side

B, E = 16, 5
SAID = np.array([0, 1, 2, 3, 1, 5, 6, 7, 8, 9, 6, 11, 12, 13, 14, 15])  # captions: two said twice
SHOWN = np.array(
  [0, 1, 2, 2, 4, 5, 6, 7, 8, 2, 10, 11, 12, 13, 14, 15]
)  # pictures: one three times
LOSSES = {"infonce": objectives.InfoNCE(), "sigmoid": objectives.SigmoidLoss()}


def embedded():
  """Vectors, of which the last two are padding."""
  x = np.random.RandomState(1).normal(size=(2, B, E)).astype(np.float32)
  weights = np.ones(B, np.float32)
  weights[-2:] = 0
  return {
    "image": x[0] / np.linalg.norm(x[0], axis=-1, keepdims=True),
    "text": x[1] / np.linalg.norm(x[1], axis=-1, keepdims=True),
    "caption": np.stack([SAID, SAID + 1], axis=1).astype(np.int32),
    "caption_end": np.zeros(B, np.int32),
    "picture": SHOWN.astype(np.int32),
    "weights": weights,
  }


def measured(objective, rows, layout=None):
  """The gradients of vectors, scale and bias, and the metrics."""

  def loss(numbers):
    model = types.SimpleNamespace(
      scale=lambda: numbers["scale"], score_bias=lambda: numbers["bias"]
    )
    marks = positives.marks(rows, objective.alike)
    images, texts = (Side(numbers[name], rows["weights"], marks) for name in ("image", "text"))
    found = objective.judge(model, images, texts)
    return found["loss"].mean(), {name: m.mean() for name, m in found.items()}

  numbers = {"scale": jnp.float32(3.0), "bias": jnp.float32(-1.5)}
  numbers |= {name: jnp.asarray(rows[name]) for name in ("image", "text")}
  with contextlib.nullcontext() if layout is None else sharding.use(layout):
    return jax.jit(jax.grad(loss, has_aux=True))(numbers)


def on(**mesh):
  """The layout of a mesh of all eight devices."""
  spread = Sharding(mesh)
  return spread.layout(spread.make_mesh())


def pairs(rows, alike):
  """(n, n) of what is no padding: which caption is true of which picture."""
  n = int(rows["weights"].sum())
  right = np.eye(n, dtype=bool)
  if "caption" in alike:
    right |= SAID[:n, None] == SAID[:n]
  if "picture" in alike:
    right |= SHOWN[:n, None] == SHOWN[:n]
  return right


ALIKE = [(), ("caption",), ("picture",), ("caption", "picture")]


@pytest.mark.parametrize("alike", ALIKE, ids=lambda alike: "+".join(alike) or "own")
def test_infonce_gives_all_that_is_right_the_same_share(alike):
  rows = embedded()
  right = pairs(rows, alike)
  n = len(right)
  scores = 3.0 * rows["image"][:n].astype(float) @ rows["text"][:n].T
  total, found = 0.0, 0
  for table, truth in ((scores, right), (scores.T, right.T)):
    for i in range(n):
      logs = table[i] - math.log(sum(math.exp(x) for x in table[i]))
      total -= sum(logs[j] for j in range(n) if truth[i, j]) / truth[i].sum()
  for i in range(n):
    found += max(scores[i][right[i]]) > max(scores[i][~right[i]])
  _, ours = measured(objectives.InfoNCE(alike), rows)
  np.testing.assert_allclose(ours["loss"], total / 2 / n, rtol=1e-5)
  np.testing.assert_allclose(ours["of_chance"], total / 2 / n / math.log(n), rtol=1e-5)
  np.testing.assert_allclose(ours["image_to_text"], found / n, rtol=1e-6)


@pytest.mark.parametrize("alike", [(), ("caption", "picture")], ids=["own", "alike"])
def test_the_sigmoid_loss_decides_about_every_pair(alike):
  rows = embedded()
  right = pairs(rows, alike)
  n = len(right)
  scores = 3.0 * rows["image"][:n].astype(float) @ rows["text"][:n].T - 1.5
  total = sum(
    math.log(1 + math.exp(-scores[i, j] if right[i, j] else scores[i, j]))
    for i in range(n)
    for j in range(n)
  )
  _, ours = measured(objectives.SigmoidLoss(alike), rows)
  np.testing.assert_allclose(ours["loss"], total / n, rtol=1e-5)


def test_the_best_constant_answer_is_chance():
  rows = embedded()
  rows["image"][:] = rows["text"][:] = rows["image"][0]
  _, ours = measured(objectives.InfoNCE(), rows)
  np.testing.assert_allclose(ours["of_chance"], 1.0, rtol=1e-5)
  assert ours["image_to_text"] == 0  # what ties is not found


MESHES = {"data": {"data": 8}, "fsdp": {"data": 2, "fsdp": 4}, "tensor": {"data": 4, "tensor": 2}}


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("name", LOSSES)
def test_a_ring_of_devices_finds_the_loss_and_gradient_of_one(name, mesh):
  one = dataclasses.replace(LOSSES[name], alike=("caption",))
  layout = on(**MESHES[mesh])
  rows = embedded()
  ring = measured(dataclasses.replace(one, exchange="ring"), rows, layout)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ring, measured(one, rows))


@pytest.mark.parametrize("name", LOSSES)
def test_pieces_find_the_loss_and_gradient_of_the_whole(name, monkeypatch):
  monkeypatch.setattr(seen, "SCORES", B * 2)  # on one device, twice as many pieces as asked for
  one = dataclasses.replace(LOSSES[name], alike=("picture",))
  layout = on(data=2, fsdp=2, tensor=2)
  rows = embedded()
  whole = measured(one, rows)
  for exchange, place in (("gather", None), ("gather", layout), ("ring", layout)):
    cut = dataclasses.replace(one, exchange=exchange, pieces=4)
    cut = measured(cut, rows, place)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), cut, whole)


def test_what_cannot_be_is_told():
  with pytest.raises(UserError, match=r"'captions'.* may hold 'caption' and 'picture'"):
    objectives.InfoNCE(alike=("captions",))
  with pytest.raises(UserError, match="exchange='rings' is not one of gather, ring"):
    objectives.SigmoidLoss(exchange="rings")
  rows = embedded()
  with pytest.raises(UserError, match=r"batch of one pair .* choose batch_size=2"):
    objectives.InfoNCE()(None, {name: x[:1] for name, x in rows.items()})
  del rows["picture"]
  with pytest.raises(UserError, match="no 'picture'"):
    objectives.InfoNCE(("picture",))(None, rows)
