"""Evaluations of two towers: recalls as counted by brute force, classes by names and examples."""

import itertools
import types

import jax.numpy as jnp
import numpy as np
import pytest

from research.data import Bytes
from research.data.task_rows import Rows
from research.errors import UserError
from research.matching import FewShot, LinearProbe, Retrieval, ZeroShot, encoded, probes, ranks
from research.metrics import Mean, Sample, particulars

E = 4
RANDOM = np.random.RandomState(0)


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


class Towers:
  """A picture is its own vector; a text is that which the table has for its first token."""

  def apply(self, params, *inputs, method):
    if method == "encode_image":
      return inputs[0].reshape(len(inputs[0]), -1)
    return params["params"]["table"][inputs[0][:, 0]]


PARAMS = {"table": jnp.asarray(unit(RANDOM.normal(size=(300, E))), jnp.float32)}


def split(images, tokens, **more):
  """A dataset of one split of pairs."""
  tokens = np.pad(np.asarray(tokens, np.int32)[:, None], ((0, 0), (0, 9)))
  rows = {
    "image": images.reshape(-1, 1, 1, E).astype(np.float32),
    "caption": tokens,
    "caption_end": np.ones(len(tokens), np.int32),
    "weights": np.ones(len(tokens), np.float32),
    **more,
  }
  return types.SimpleNamespace(
    source=lambda name: Rows(rows),
    example=lambda: {name: x[:1] for name, x in rows.items()},
    prepare=lambda: types.SimpleNamespace(vocabulary=Bytes().fit([])),
  )


def brute_force(scores, right, k):
  """The mean over all orders of what ties, of whether the first k hold a right one."""
  orders = itertools.permutations(range(len(scores)))
  found = [
    any(right[j] for j in sorted(order, key=lambda j: -scores[j])[:k])  # sorted is stable
    for order in orders
  ]
  return np.mean(found)


def test_hits_are_those_of_every_order_of_what_ties():
  scores = RANDOM.randint(0, 3, (12, 5)) / 10
  right = RANDOM.rand(12, 5) < 0.4
  right[:, 2] |= ~right.any(1)
  ours = ranks.hits(scores + 1e-9 * RANDOM.rand(12, 5), right, (1, 2, 4))
  for q in range(12):
    for i, k in enumerate((1, 2, 4)):
      assert ours[q, i] == pytest.approx(brute_force(scores[q], right[q], k))


def test_what_is_no_number_is_never_a_hit():
  scores, right = np.eye(4), np.eye(4, dtype=bool)
  scores[0, 0] = np.nan  # the right one: as far as can be, also where all places are looked at
  scores[1, 2] = np.nan  # a wrong one takes no place
  scores[2] = np.nan
  np.testing.assert_array_equal(ranks.hits(scores, right, (1, 4)), [[0, 0], [1, 1], [0, 0], [1, 1]])
  assert not ranks.hits(np.full((2, 3), np.nan), np.eye(2, 3, dtype=bool), (1, 3)).any()
  np.testing.assert_array_equal(ranks.drawn(np.array([0, 1]), np.zeros(2), np.ones(2)), [0, 1])


def pictures_with_captions():
  """20 pairs: 8 pictures with several captions, of which two are said of two pictures."""
  shown = np.array([0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 5, 6, 6, 6, 7, 7, 7])
  said = np.array([1, 2, 3, 4, 5, 3, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 9, 18, 19, 20])
  vectors = unit(
    RANDOM.normal(size=(8, E))
    + 1.2 * np.asarray(PARAMS["table"])[said[[0, 3, 5, 7, 10, 12, 14, 17]]]
  )
  return shown, said, vectors.astype(np.float32)


@pytest.mark.parametrize("numbered", [False, True], ids=["by pixels", "by number"])
def test_recall_is_the_brute_force_with_several_captions_of_a_picture(numbered):
  shown, said, vectors = pictures_with_captions()
  more = {"picture": shown.astype(np.int32) + 5} if numbered else {}
  dataset = split(vectors[shown], said, **more)
  measured = Retrieval(nearest=(1, 3), rows=3).total(Towers(), PARAMS, dataset)
  texts = sorted(set(said))
  scores = vectors @ np.asarray(PARAMS["table"])[texts].T
  right = np.array([[(p, t) in set(zip(shown, said)) for t in texts] for p in range(8)])
  for name, table, truth in (
    ("image_to_text", scores, right),
    ("text_to_image", scores.T, right.T),
  ):
    for k in (1, 3):
      nearest = np.argsort(-table, axis=1)[:, :k]
      hits = np.take_along_axis(truth, nearest, axis=1).any(1)
      sample = measured[f"{name}_at_{k}"]
      assert sample.mean() == pytest.approx(hits.mean())
      assert len(sample.values) == len(table)
      guesses = [t[list(c)].any() for t in truth for c in itertools.combinations(range(len(t)), k)]
      assert sample.chance == pytest.approx(np.mean(guesses))


def test_a_collapsed_model_scores_chance():
  shown, said, vectors = pictures_with_captions()
  dataset = split(np.repeat(vectors[:1], 20, axis=0), said, picture=shown.astype(np.int32))
  same = {"table": jnp.broadcast_to(PARAMS["table"][0], (300, E))}
  for sample in Retrieval().total(Towers(), same, dataset).values():
    assert sample.mean() == pytest.approx(sample.chance) and 0 < sample.chance <= 1


def test_only_so_many_pairs_are_searched_and_a_signal_stops():
  shown, said, vectors = pictures_with_captions()
  dataset = split(vectors[shown], said)
  assert (
    len(Retrieval(pairs=7, rows=4).total(Towers(), PARAMS, dataset)["image_to_text_at_1"].values)
    == 3
  )
  assert Retrieval(rows=4).total(Towers(), PARAMS, dataset, lambda: True) is None


def test_classes_are_the_mean_of_their_templates():
  table = np.asarray(PARAMS["table"])
  names, templates = ("ape", "bee", "cow"), ("{}", "x {}")
  first = [[table[ord(t.replace("{}", name)[0])] for t in templates] for name in names]
  classes = unit(np.array(first).mean(1))
  label = RANDOM.randint(0, 3, 30)
  images = unit(classes[label] + 0.5 * RANDOM.normal(size=(30, E)))
  dataset = split(images, np.ones(30), label=label.astype(np.int32))
  measured = ZeroShot(names, templates, nearest=(1, 2)).total(Towers(), PARAMS, dataset)
  order = np.argsort(-(images @ classes.T), axis=1)
  hits = order[:, 0] == label
  assert measured["top_1"].mean() == pytest.approx(hits.mean())
  assert measured["top_2"].mean() == pytest.approx((order[:, :2] == label[:, None]).any(1).mean())
  assert (measured["top_1"].chance, measured["top_2"].chance) == pytest.approx((1 / 3, 2 / 3))
  each = [hits[label == c].mean() for c in range(3)]
  assert measured["class_mean"].mean() == pytest.approx(np.mean(each))


def test_pictures_of_one_number_are_drawn_together_for_the_interval():
  label = np.arange(12, dtype=np.int32) % 3
  images = unit(RANDOM.normal(size=(12, E)))
  numbered = split(images, np.ones(12), label=label, picture=np.array([5, 5, 9] * 4, np.int32))
  measured = ZeroShot(("ape", "bee", "cow"), rows=5).total(Towers(), PARAMS, numbered)
  np.testing.assert_array_equal(measured["top_1"].groups, [0, 0, 1] * 4)
  plain = split(images, np.ones(12), label=label)
  assert ZeroShot(("ape", "bee", "cow")).total(Towers(), PARAMS, plain)["top_1"].groups is None


def test_pictures_of_one_number_are_drawn_together_by_probes_too():
  label = np.arange(12, dtype=np.int32) % 3
  images, picture = unit(RANDOM.normal(size=(12, E))), np.array([5, 5, 9] * 4, np.int32)
  numbered = split(images, np.ones(12), label=label, picture=picture)
  for probe in (FewShot(3, shots=(1,)), LinearProbe(3)):
    (sample,) = probe.total(Towers(), PARAMS, numbered).values()
    np.testing.assert_array_equal(sample.groups, [0, 0, 1] * 4)


def test_a_ridge_is_the_least_squares_whichever_system_is_solved():
  label = np.arange(30) % 3
  x = RANDOM.normal(size=(30, E)) + np.eye(3, E)[label]
  for n in (3, 30):  # fewer and more examples than numbers
    weights, bias = probes.ridge(x[:n], label[:n], 3, 0.5)
    centred = x[:n] - x[:n].mean(0)
    targets = 2 * np.eye(3)[label[:n]] - 1
    rows = np.concatenate([centred, np.sqrt(0.5) * np.eye(E)])
    wanted = np.concatenate([targets - targets.mean(0), np.zeros((E, 3))])
    np.testing.assert_allclose(weights, np.linalg.lstsq(rows, wanted, rcond=None)[0], atol=1e-9)
    np.testing.assert_allclose((x[:n] @ weights + bias).mean(0), targets.mean(0), atol=1e-9)


def test_a_linear_probe_is_where_the_gradient_vanishes():
  label = np.arange(60) % 3
  x = (RANDOM.normal(size=(60, E)) + np.eye(3, E)[label]).astype(np.float32)
  weights, bias = probes.logistic(x, label, 3, 0.1)
  logits = x @ weights + bias
  shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  missing = (shares - np.eye(3)[label]) / 60
  np.testing.assert_allclose(x.T @ missing + 0.1 * weights, 0, atol=2e-6)
  np.testing.assert_allclose(missing.sum(0), 0, atol=2e-6)


def test_examples_make_classes():
  label = np.arange(60) % 3
  images = unit(np.eye(3, E)[label] + 0.1 * RANDOM.normal(size=(60, E)))
  dataset = split(images, np.ones(60), label=label.astype(np.int32))
  few = FewShot(3, shots=(1, 5)).total(Towers(), PARAMS, dataset)
  assert few["shots_5"].mean() == 1 and few["shots_1"].chance == pytest.approx(1 / 3)
  assert LinearProbe(3).total(Towers(), PARAMS, dataset)["accuracy"].mean() == 1
  with pytest.raises(UserError, match=r"class 0 has 20 examples .* shots=21"):
    FewShot(3, shots=(21,)).total(Towers(), PARAMS, dataset)
  with pytest.raises(UserError, match="labels go from 0 to 2, and there are 2 names"):
    ZeroShot(("a", "b")).total(Towers(), PARAMS, dataset)
  with pytest.raises(UserError, match="no 'label'"):
    ZeroShot(("a", "b")).total(Towers(), PARAMS, split(images, np.ones(60)))


def test_what_an_evaluation_cannot_be_is_told():
  with pytest.raises(UserError, match="each with a name of its own"):
    ZeroShot(("a", "a"))
  with pytest.raises(UserError, match="has no place for a name"):
    ZeroShot(("a", "b"), templates=("a photo",))
  with pytest.raises(UserError, match=r"nearest=\(0,\)"):
    Retrieval(nearest=(0,))


def test_an_interval_holds_the_truth_as_often_as_it_says():
  held, clustered = 0, 0
  for seed in range(60):
    random = np.random.RandomState(seed)
    low, high = Sample((random.rand(80) < 0.3).astype(float), 0.1).interval()
    held += low <= 0.3 <= high
    # Five values that are all the same are one: drawn by group, the interval knows.
    values = np.repeat((random.rand(40) < 0.3).astype(float), 5)
    low, high = Sample(values, 0.1, np.repeat(np.arange(40), 5)).interval()
    clustered += low <= 0.3 <= high
  assert 51 <= held <= 60 and 51 <= clustered <= 60


def test_particulars_are_told_of_samples_alone():
  told = particulars({"a": Sample(np.array([0.0, 1.0]), 0.5), "b": Mean(1.0, 2.0)})
  assert told["n"] == {"a": 2} and told["chance"] == {"a": 0.5}
  assert told["interval"]["a"] == [0.0, 1.0]
  assert particulars({"b": Mean(1.0, 2.0)}) == {}


def test_a_picture_comes_once_however_many_captions_it_has():
  shown, said, vectors = pictures_with_captions()
  encoder = encoded.Encoder(Towers(), PARAMS, 4)
  found = encoded.pairs_of(encoder, split(vectors[shown], said).source(""), None, lambda: False)
  assert len(found.images_PE) == 8 and len(found.texts_TE) == 18 and len(found.pairs) == 20
  np.testing.assert_array_equal(found.first_image, [0, 3, 5, 7, 10, 12, 14, 17])


def test_of_several_captions_the_first_may_stand_for_all():
  shown, said, vectors = pictures_with_captions()
  encoder = encoded.Encoder(Towers(), PARAMS, 4)
  source = split(vectors[shown], said).source("")
  found = encoded.pairs_of(encoder, source, None, lambda: False, captions=1)
  assert len(found.images_PE) == len(found.pairs) == 8
  first = [int(np.flatnonzero(shown == picture)[0]) for picture in dict.fromkeys(shown.tolist())]
  everything = source.take(np.arange(len(shown)), 0)
  for picture, text in found.pairs:
    want = encoder.texts(*(everything[k][[first[picture]]] for k in ("caption", "caption_end")))
    np.testing.assert_allclose(found.texts_TE[text], want[0], rtol=1e-6)


def with_padding(rows, places):
  """The rows of a dataset, those at the places broken: zeros in every key."""
  kept = np.ones(len(next(iter(rows.values()))), bool)
  kept[places] = False
  return {name: np.where(kept.reshape(-1, *[1] * (x.ndim - 1)), x, 0) for name, x in rows.items()}


@pytest.mark.parametrize("numbered", [True, False])
def test_padding_inside_of_a_batch_is_neither_picture_nor_caption(numbered):
  shown, said, vectors = pictures_with_captions()
  broken = np.array([0, 4, 5, 9, 10, 11])
  kept = np.delete(np.arange(20), broken)
  more = {"picture": shown.astype(np.int32) + 5} if numbered else {}
  whole = split(vectors[shown], said, **more).source("").take(np.arange(20), 0)
  encoder = encoded.Encoder(Towers(), PARAMS, 3)
  found, wanted = (
    encoded.pairs_of(encoder, Rows(rows), None, lambda: False)
    for rows in (with_padding(whole, broken), {name: x[kept] for name, x in whole.items()})
  )
  for field in ("images_PE", "texts_TE", "pairs"):
    np.testing.assert_array_equal(getattr(found, field), getattr(wanted, field))
  for field in ("first_image", "first_text"):
    np.testing.assert_array_equal(getattr(found, field), kept[getattr(wanted, field)])


def test_padding_has_no_class():
  label = np.arange(12, dtype=np.int32) % 3
  rows = split(unit(RANDOM.normal(size=(12, E))), np.ones(12), label=label).source("")
  rows = with_padding(rows.take(np.arange(12), 0), [1, 5, 6, 7])
  made = split(rows["image"], np.ones(12), **rows)
  measured = ZeroShot(("ape", "bee", "cow"), rows=4).total(Towers(), PARAMS, made)
  assert len(measured["top_1"].values) == 8
  (sample,) = FewShot(3, shots=(1,)).total(Towers(), PARAMS, made).values()
  assert len(sample.values) == 8


def test_a_split_with_nothing_to_evaluate_is_told():
  label, images = np.zeros(4, np.int32), unit(RANDOM.normal(size=(4, E)))
  rows = split(images, np.ones(4), label=label).source("").take(np.arange(4), 0)
  for nothing in ({name: x[:0] for name, x in rows.items()}, with_padding(rows, np.arange(4))):
    made = split(images, np.ones(4))
    made.source = lambda _, rows=nothing: Rows(rows)
    for evaluation in (Retrieval(), ZeroShot(("a", "b")), LinearProbe(2)):
      with pytest.raises(UserError, match="nothing to evaluate; hold some of the data out"):
        evaluation.total(Towers(), PARAMS, made)
