"""Labels, tags and spans: what is learned, and the figures that say how well."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import Experiment, Sharding, answers, models, objectives, optim, update
from research.metrics import CalibrationError, MacroF1, add, means
from research.objectives.entities import entity_counts
from research.sharding import Layout, use

L, V = 16, 40
BODY = models.BERT(vocab_size=V, max_length=L, width=16, depth=1, heads=2, hidden=24)
DECODER = models.GPT(vocab_size=V, max_length=L, width=16, depth=1, heads=2)
TASKS = {
  "label": (models.Classifier(BODY, 3, dropout=0.1), objectives.Label(label_smoothing=0.1)),
  "scores": (models.Classifier(BODY, 3), objectives.LabelScores()),
  "mean": (models.Classifier(BODY, 3, pooling="mean"), objectives.LabelScores()),
  "tags": (models.Tagger(BODY, 5), objectives.Tags()),
  "span": (models.Reader(BODY), objectives.Span()),
  "decoder": (models.GPTClassifier(DECODER, 3), objectives.LabelAndNextToken()),
}


def rows(B=16, L=L, seed=0):
  """Pairs of many lengths with a label, tags and a span each."""
  random = np.random.RandomState(seed)
  lengths_B1 = random.randint(8, 15, B)[:, None]
  index = np.arange(L)
  there = index < lengths_B1
  segments = np.where(index < 4, 1, 2) * there
  words = (random.rand(B, L) < 0.6) * (index > 0) * (index < lengths_B1 - 1)
  first = random.randint(4, 6, B) * (random.rand(B) < 0.8)
  batch = {
    "tokens": random.randint(1, V, (B, L)) * there,
    "segments": segments,
    "label": random.randint(0, 3, B),
    "words": np.cumsum(words, axis=1) * words,
    "tags": random.randint(0, 5, (B, L)) * words,
    "first": first,
    "last": first + (first > 0),
  }
  return {name: np.asarray(x, np.int32) for name, x in batch.items()}


def measured(name, batch, seed=1):
  model, objective = TASKS[name]
  params = nn.init(objective, model)(jax.random.key(seed), rows())
  return jax.jit(nn.apply(objective, model))(nn.meta.unbox(params), batch)


@pytest.mark.parametrize(
  "name", ["scores", "mean", "tags", "span", pytest.param("decoder", marks=pytest.mark.slow)]
)
def test_padding_changes_nothing(name):
  batch = rows(4)
  more = {k: np.pad(x, [(0, 3)] + [(0, 0)] * (x.ndim - 1)) for k, x in batch.items()}
  more = {k: x[:, :14] if x.ndim == 2 else x for k, x in more.items()}  # and less behind each row
  few, many = (means(measured(name, some)) for some in (batch, more))
  for key, x in few.items():
    np.testing.assert_allclose(many[key], x, rtol=1e-4, err_msg=key)


def test_mean_pooling_is_of_the_states_that_are_no_padding():
  model, objective = TASKS["mean"]
  batch = rows(4)
  params = nn.meta.unbox(nn.init(objective, model)(jax.random.key(1), batch))["params"]
  params["head"]["bias"] = jnp.arange(3.0)
  states = BODY.apply(
    {"params": params["body"]}, batch["tokens"], batch["segments"], method="encode"
  )
  want = [
    x[there].mean(axis=0) @ params["head"]["kernel"] + params["head"]["bias"]
    for x, there in zip(np.asarray(states), batch["segments"] > 0)
  ]
  scores = model.apply({"params": params}, batch["tokens"], batch["segments"])
  np.testing.assert_allclose(scores, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["scores", "tags"])
def test_batches_add_up_to_the_whole(name):
  batch = rows()
  whole = means(measured(name, batch))
  parts = [measured(name, {k: x[i : i + 4] for k, x in batch.items()}) for i in (0, 4, 8, 12)]
  total = parts[0]
  for part in parts[1:]:
    total = add(total, part)
  assert set(whole) == set(total)
  for key, x in means(total).items():
    np.testing.assert_allclose(x, whole[key], rtol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", ["tags", pytest.param("decoder", marks=pytest.mark.slow)])
def test_eight_devices_match_one(name):
  model, objective = TASKS[name]
  experiment = Experiment(
    name="x", data=None, model=model, objective=objective, optimizer=optim.SGD(0.1), batch_size=16
  )
  batch = rows()
  shapes = {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in batch.items()}
  found = []
  for mesh in ({"data": 1}, {"data": 2, "fsdp": 2, "tensor": 2}):
    made = dataclasses.replace(experiment, sharding=Sharding(mesh=mesh))
    count = int(np.prod(list(mesh.values())))
    program = update.build(made, made.sharding.make_mesh(jax.devices()[:count]), shapes)
    state, loss = program.step(program.init(), program.place(batch))
    found.append((jax.device_get(state.params), means(loss)["loss"]))
  np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5)
  for one, eight in zip(jax.tree.leaves(found[0][0]), jax.tree.leaves(found[1][0])):
    np.testing.assert_allclose(one, eight, atol=2e-5)


def test_a_head_stands_on_a_body_whose_names_are_its_own():
  model, objective = TASKS["label"]
  params = nn.init(objective, model)(jax.random.key(0), rows())["params"]
  assert set(params) == {"body", "head"}
  alone = BODY.init(jax.random.key(0), rows()["tokens"])["params"]
  assert set(params["body"]) <= set(alone)


def test_the_pooled_vector_is_dropped_only_with_a_key():
  model, objective = TASKS["label"]
  params = nn.init(objective, model)(jax.random.key(0), rows())
  apply = nn.apply(objective, model)
  one, two = (apply(params, rows(), rngs={"dropout": jax.random.key(i)})["loss"] for i in (1, 2))
  assert one.total != two.total
  assert apply(params, rows())["loss"].total == apply(params, rows())["loss"].total


def test_label_loss_is_smoothed_cross_entropy():
  model, objective = TASKS["label"]
  batch = rows()
  params = nn.meta.unbox(nn.init(objective, model)(jax.random.key(1), batch))
  logits = np.asarray(model.apply(params, batch["tokens"], batch["segments"]), np.float64)
  log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
  target = 0.9 * np.eye(3)[batch["label"]] + 0.1 / 3
  found = nn.apply(objective, model)(params, batch)
  np.testing.assert_allclose(found["loss"].mean(), -(target * log_p).sum(1).mean(), rtol=1e-5)


def test_macro_f1_is_the_mean_over_labels_that_occur():
  # The example of scikit-learn's f1_score: macro 0.2666...
  given, said = jnp.array([0, 1, 2, 0, 1, 2]), jnp.array([0, 2, 1, 0, 0, 1])
  f1 = MacroF1.of(given, said, jnp.ones(6), 5)
  assert float(f1.mean()) == pytest.approx(0.26666667)
  assert float(MacroF1.of(given, said, jnp.zeros(6), 5).mean()) == 0


def test_calibration_error_is_the_gap_by_bins():
  random = np.random.RandomState(0)
  confidence, correct = random.rand(500).astype(np.float32), random.rand(500) < 0.5
  expected = 0.0
  for i in range(15):
    inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
    if inside.any():
      expected += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
  found = CalibrationError.of(jnp.array(confidence), jnp.array(correct), jnp.ones(500))
  assert float(found.mean()) == pytest.approx(expected, abs=1e-5)
  assert float(CalibrationError.of(jnp.ones(4), jnp.ones(4), jnp.ones(4)).mean()) == 0


TYPES = ("MISC", "PER", "LOC")


def tags(sentences):
  """Tags as numbers in rows, a word at every second place so that words have two tokens."""
  width = 2 * max(map(len, sentences)) + 2
  numbers, first = np.zeros((2, len(sentences), width), np.int32)
  for row, sentence in enumerate(sentences):
    for i, tag in enumerate(sentence):
      letter, _, kind = tag.partition("-")
      first[row, 2 * i + 1] = 1
      if kind:
        numbers[row, 2 * i + 1] = 2 * TYPES.index(kind) + (1 if letter == "B" else 2)
        numbers[row, 2 * i + 2] = 3  # what is no first token does not count
  return jnp.array(numbers), jnp.array(first > 0)


def f1(given, said):
  (given_BL, first_BL), (said_BL, _) = tags(given), tags(said)
  correct, true, predicted = map(float, entity_counts(given_BL, said_BL, first_BL))
  return correct, true, predicted


def test_entity_f1_is_seqevals():
  # The example of seqeval's page: f1 0.50.
  given = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
  said = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
  assert f1(given, said) == (1, 2, 2)


@pytest.mark.parametrize(
  ("given", "said", "counts"),
  [
    (["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "O", "O", "B-LOC"], (1, 2, 2)),
    (["B-PER", "B-PER"], ["B-PER", "I-PER"], (0, 2, 1)),
    (["O", "I-PER", "I-PER"], ["O", "B-PER", "I-PER"], (1, 1, 1)),
    (["B-PER", "I-LOC"], ["B-PER", "B-LOC"], (2, 2, 2)),
    (["B-PER"], ["B-LOC"], (0, 1, 1)),
    (["O", "O"], ["O", "O"], (0, 0, 0)),
    (["B-PER", "I-PER", "I-PER"], ["B-PER", "I-PER", "I-PER"], (1, 1, 1)),
  ],
)
def test_an_entity_is_type_first_and_last_word(given, said, counts):
  assert f1([given], [said]) == counts


def test_entities_are_counted_as_in_plain_python():
  random = np.random.RandomState(0)
  letters = ["O", *(f"{c}-{t}" for c in "BI" for t in TYPES)]
  given, said = ([list(random.choice(letters, random.randint(1, 9))) for _ in range(60)],) * 2
  said = [[t if random.rand() < 0.7 else random.choice(letters) for t in row] for row in said]

  def chunks(row):
    found, before = [], "O"
    for i, tag in enumerate([*row, "O"]):
      kind = tag[2:]
      if found and found[-1][2] is None and (tag == "O" or tag[0] == "B" or kind != before[2:]):
        found[-1] = (*found[-1][:2], i)
      if tag != "O" and (tag[0] == "B" or kind != before[2:]):
        found.append((kind, i, None))
      before = tag
    return set(found)

  pairs = [(chunks(a), chunks(b)) for a, b in zip(given, said)]
  expected = tuple(sum(map(len, part)) for part in zip(*[(a & b, a, b) for a, b in pairs]))
  assert f1(given, said) == expected


def test_the_best_spans_lie_in_the_text_and_are_not_too_long():
  model, _ = TASKS["span"]
  span, batch = objectives.Span(longest=3), rows()
  params = nn.meta.unbox(nn.init(span, model)(jax.random.key(1), batch))
  found = nn.apply(lambda m, b: span.predict(m, b), model)(params, batch)
  first, last = model.apply(params, batch["tokens"], batch["segments"])
  first, last = (np.asarray(jax.nn.log_softmax(x), np.float64) for x in (first, last))
  for row in range(16):
    end = (batch["segments"][row] > 0).sum() - 1
    possible = {
      (i, j): first[row, i] + last[row, j] for i in range(4, end) for j in range(i, min(end, i + 3))
    }
    best = max(possible, key=possible.get)
    assert (found["first"][row, 0], found["last"][row, 0]) == best
    assert found["null"][row] == pytest.approx(first[row, 0] + last[row, 0], rel=1e-4)
    finite = np.isfinite(found["scores"][row])
    assert finite.sum() == min(len(possible), 20)


@pytest.mark.parametrize(
  ("said", "right", "exact", "f1"),
  [
    ("the Norman dynasty", ["Norman Dynasty!"], 1, 1),
    ("a cat sat", ["the cat"], 0, 2 / 3),
    ("in the 10th century", ["10th and 11th centuries", "the 10th century"], 0, 0.8),
    ("", [""], 1, 1),
    ("something", [""], 0, 0),
    ("", ["something"], 0, 0),
    ("the", ["a"], 1, 1),
    ("to to be", ["to be"], 0, 0.8),
  ],
)
def test_answers_are_compared_by_squads_definition(said, right, exact, f1):
  assert answers.compare(said, right) == pytest.approx((exact, f1))


def test_the_best_threshold_is_the_best_of_all():
  random = np.random.RandomState(0)
  for _ in range(20):
    none = random.rand(12) < 0.4
    doubts, scores = random.randn(12), np.where(none, 0.0, random.rand(12))
    everywhere = [np.where(doubts > cut, none, scores).sum() for cut in (-np.inf, *doubts, np.inf)]
    found = answers.best_with_threshold(doubts, scores, none)
    assert found == pytest.approx(max(*everywhere, none.sum()))


def test_logits_split_over_devices_are_used_under_a_layout():
  model, objective = TASKS["tags"]
  sharding = Sharding(mesh={"data": 8})
  mesh = sharding.make_mesh()
  params = nn.meta.unbox(nn.init(objective, model)(jax.random.key(1), rows()))
  with use(Layout(mesh, sharding.rules)):
    split = jax.jit(nn.apply(objective, model))(params, rows())
  assert means(split)["f1"] == pytest.approx(means(measured("tags", rows()))["f1"])
