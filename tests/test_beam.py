"""Beam search finds what a search of everything finds; what is decoded is what the model says."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import generate, models
from research.errors import UserError
from research.generate import Beam, Greedy
from research.generate.beam import search

END = 1
MODEL = models.Transformer(vocab_size=5, max_length=12, width=8, depth=1, heads=2, hidden=8)
SOURCES = [np.array(x) for x in ([2, 3], [4, 2, 2, 3, 1], [3], [2, 4, 4], [1])]


@pytest.fixture(scope="module")
def params():
  tokens = np.zeros((1, 4), np.int32)
  made = nn.meta.unbox(jax.jit(MODEL.init)(jax.random.key(1), tokens, tokens))["params"]
  leaves, tree = jax.tree.flatten(made)
  random = np.random.RandomState(5)
  return tree.unflatten([x + 0.8 * random.randn(*x.shape).astype(np.float32) for x in leaves])


@pytest.fixture(scope="module")
def log_probs(params):
  """(source, prefix) -> log-probabilities of the next token, by the whole model at once."""
  apply = jax.jit(lambda source, target: MODEL.apply({"params": params}, source, target))
  known = {}

  def of(source, prefix):
    key = tuple(source), tuple(prefix)
    if key not in known:
      tokens = np.array([[0, *prefix, *[0] * (4 - len(prefix))]], np.int32)
      y = apply(np.asarray(source, np.int32)[None], tokens)[0, len(prefix)]
      known[key] = np.asarray(jax.nn.log_softmax(y), np.float64)
    return known[key]

  return of


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_beam_as_wide_as_all_finds_the_best_of_all(params, log_probs, penalty):
  """Every target of up to three tokens is scored; the search returns the argmax."""
  steps = 3
  settings = {"steps": steps, "begin": (0,), "end": END, "search": Beam(5**steps, penalty)}
  found = generate.translate(MODEL, params, SOURCES, **settings)
  for source, target in zip(SOURCES, found):
    best = {}
    for length in range(1, steps + 1):
      for words in itertools.product(range(5), repeat=length):
        if END in words[:-1] or (length < steps and words[-1] != END):
          continue
        total = sum(log_probs(source, words[:i])[word] for i, word in enumerate(words))
        best[words] = total / length**penalty
    assert tuple(target) == max(best, key=best.get)


@pytest.mark.parametrize("size, penalty", [(1, 1.0), (2, 0.6), (4, -1.0)])
def test_a_narrow_beam_keeps_what_the_rules_keep(params, log_probs, size, penalty):
  """The search by the rules of the docstring, with lists, one text at a time."""
  steps = 4

  def plainly(source):
    beams, kept = [(0.0, ())], []
    for written in range(1, steps + 1):
      candidates = sorted(
        (
          (total + gain, (*words, word))
          for total, words in beams
          for word, gain in enumerate(log_probs(source, words))
        ),
        reverse=True,
      )
      ends = [words[-1] == END or written == steps for _, words in candidates]
      for (total, words), ended in list(zip(candidates, ends))[:size]:
        if ended:
          kept.append((total / written**penalty, words))
      kept = sorted(kept, reverse=True)[:size]
      beams = [beam for beam, ended in zip(candidates, ends) if not ended][:size]
      if not beams or (len(kept) == size and kept[-1][0] >= beams[0][0] / written**penalty):
        break
    return kept[0][1]

  settings = {"steps": steps, "begin": (0,), "end": END, "search": Beam(size, penalty), "rows": 2}
  found = generate.translate(MODEL, params, SOURCES, **settings)
  assert [tuple(target) for target in found] == [plainly(source) for source in SOURCES]


@pytest.mark.parametrize("how, power", [(Greedy(), 0), (generate.Sample(), 0), (Beam(2, 0.6), 0.6)])
def test_a_score_is_the_sum_of_log_probabilities(params, log_probs, how, power):
  settings = {"steps": 4, "begin": (0,), "end": END, "search": how, "rows": 2}
  found = dict(generate.translations(MODEL, params, SOURCES, **settings))
  assert sorted(found) == list(range(len(SOURCES)))
  for i, (words, score) in found.items():
    total = sum(log_probs(SOURCES[i], words[:n])[word] for n, word in enumerate(words))
    assert score == pytest.approx(total / len(words) ** power, rel=1e-4)


def test_greedy_takes_the_likeliest_word_each_time(params, log_probs):
  found = generate.translate(MODEL, params, SOURCES, steps=4, begin=(0,), end=END)
  for source, target in zip(SOURCES, found):
    for i, word in enumerate(target):
      assert word == np.argmax(log_probs(source, target[:i]))
    assert target[-1] == END or len(target) == 4


@pytest.mark.parametrize("how", [Greedy(), generate.Sample(), Beam(2)], ids=str)
def test_a_source_does_not_depend_on_those_beside_it(params, how):
  settings = {"steps": 4, "begin": (0, 3), "end": END, "search": how, "never": (4,)}
  together = generate.translate(MODEL, params, SOURCES, **settings, rows=4)
  two_by_two = generate.translate(MODEL, params, SOURCES, **settings, rows=2)
  assert list(map(list, together)) == list(map(list, two_by_two))
  assert 4 not in np.concatenate(together)


def test_scanned_layers_are_searched_alike(params):
  scanned = MODEL.clone(layers="scan")
  stacked = {
    name: {"0::1": jax.tree.map(lambda x: x[None], part["0"])}
    if name in ("encoder", "decoder")
    else part
    for name, part in params.items()
  }
  settings = {"steps": 4, "begin": (0,), "end": END, "search": Beam(3), "rows": 2}
  looped = generate.translate(MODEL, params, SOURCES, **settings)
  found = generate.translate(scanned, stacked, SOURCES, **settings)
  assert list(map(list, looped)) == list(map(list, found))


def test_a_decoder_alone_is_searched_too():
  """A prompt's best continuation is that of all continuations, whatever stands beside it."""
  model = models.GPT(vocab_size=4, max_length=8, width=8, depth=1, heads=2)
  tokens = np.zeros((1, 4), np.int32)
  params = nn.meta.unbox(jax.jit(model.init)(jax.random.key(0), tokens))["params"]
  params = jax.tree.map(lambda x: x * 4, params)
  prompts = [np.array([3]), np.array([2, 3, 0, 2])]
  found = generate.beam_search(model, params, prompts, steps=2, beam=Beam(16, 0.0), end=None)
  score = jax.jit(lambda x: jax.nn.log_softmax(model.apply({"params": params}, x)))
  for prompt, target in zip(prompts, found):
    totals = {}
    for words in itertools.product(range(4), repeat=2):
      row = np.asarray(score(np.array([[*prompt, *words]])))[0]
      n = len(prompt)
      totals[words] = row[n - 1, words[0]] + row[n, words[1]]
    assert tuple(target) == max(totals, key=totals.get)
  # Far more tokens than the model reads take no room, and what is forbidden is not written.
  settings = {"steps": 10**9, "beam": Beam(2), "end": None, "never": (3,)}
  found = generate.beam_search(model, params, prompts, **settings)
  assert found.shape == (2, 8) and found.max() == 2


def test_a_text_that_is_over_takes_nothing_more():
  """Certain to end at once, the first text keeps its one word while the second goes on."""
  table = jnp.log(jnp.array([[0.01, 0.98, 0.01], [0.9, 0.01, 0.09]]))

  def step(cache, token_N, written):
    return jnp.repeat(table, 2, axis=0), cache

  found, scores = search(
    Beam(2, 0.0), step, {}, jnp.zeros(2, int), jnp.array([5, 3]), steps=5, end=1
  )
  assert found[0, 0].tolist() == [1, -1, -1, -1, -1]
  assert found[1, 0].tolist() == [0, 0, 0, -1, -1]
  assert float(scores[1, 0]) == pytest.approx(3 * np.log(0.9), rel=1e-5)


@pytest.mark.parametrize(
  "change, says",
  [
    ({"sources": [np.zeros(13, int)]}, "source 0 has 13 tokens; a source has 1 to max_length=12"),
    ({"sources": [np.zeros(0, int)]}, "source 0 has 0 tokens"),
    ({"begin": ()}, "a target begins with 1 to 12 tokens"),
    ({"steps": 0}, "steps=0"),
  ],
)
def test_what_cannot_be_translated_is_told(params, change, says):
  settings = {"sources": SOURCES, "steps": 4, "begin": (0,), "end": END} | change
  with pytest.raises(UserError, match=says):
    generate.translate(MODEL, params, settings.pop("sources"), **settings)


def test_a_beam_of_nothing_is_told():
  with pytest.raises(UserError, match="beam size=0"):
    Beam(0)
