"""N-gram models are what counting by hand, by dictionaries and by NLTK says they are."""

import collections
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research import metrics
from research.errors import UserError
from research.models.ngram import FittedNGram, NGram
from research.models.ngram_smoothing import Additive, KneserNey

END, VOCAB = 0, 6
MAXIMUM_LIKELIHOOD = Additive(0)

documents_of = st.lists(st.lists(st.integers(1, VOCAB - 1), max_size=12), min_size=1, max_size=12)
smoothings = st.sampled_from([KneserNey(), Additive(1), Additive(0.1), MAXIMUM_LIKELIHOOD])


def stream(documents):
  return np.array([token for document in documents for token in (*document, END)], np.int32)


def fit(documents, order, smoothing=KneserNey(), vocab_size=VOCAB):  # noqa: B008 (frozen)
  return NGram(order, smoothing).fit(stream(documents), vocab_size=vocab_size, end=END)


def markov(seed, count, vocab_size=VOCAB):
  """Documents from a random chain, long enough for estimates of the discounts."""
  rng = np.random.default_rng(seed)
  chain = rng.dirichlet(np.full(vocab_size, 0.5), size=vocab_size)
  chain[:, END] = 0.1
  chain /= chain.sum(1, keepdims=True)
  documents = []
  for _ in range(count):
    token, document = END, []
    while (token := int(rng.choice(vocab_size, p=chain[token]))) != END and len(document) < 30:
      document.append(token)
    documents.append(document)
  return documents


class Dictionaries:
  """Chen and Goodman's equations, spelled out with dictionaries and recursion."""

  def __init__(self, documents, order, vocab_size):
    self.order, self.vocab_size = order, vocab_size
    occurrences = collections.Counter()
    for document in documents:
      text = ["<s>", *document, END]
      for last in range(1, len(text)):
        for first in range(max(0, last - order + 1), last + 1):
          occurrences[tuple(text[first : last + 1])] += 1
    lefts = collections.defaultdict(set)
    for gram in occurrences:
      lefts[gram[1:]].add(gram[0])
    self.counts = {
      gram: count if len(gram) == order or gram[0] == "<s>" else len(lefts[gram])
      for gram, count in occurrences.items()
    }
    self.after = collections.defaultdict(list)
    for gram, count in self.counts.items():
      self.after[gram[:-1]].append(count)

  def discount(self, length, count):
    if count == 0:
      return 0.0
    n = {r: sum(c == r for g, c in self.counts.items() if len(g) == length) for r in (1, 2, 3, 4)}
    if 0 in n.values():
      return {1: 0.5, 2: 1.0}.get(count, 1.5)
    y = n[1] / (n[1] + 2 * n[2])
    d = [1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
    return d[min(count, 3) - 1] if min(d) > 0 else {1: 0.5, 2: 1.0}.get(count, 1.5)

  def probability(self, context, token):
    length = len(context) + 1
    lower = self.probability(context[1:], token) if context else 1 / self.vocab_size
    total = sum(self.after[context])
    if total == 0:
      return lower
    count = self.counts.get((*context, token), 0)
    kept = (count - self.discount(length, count)) / total
    return kept + sum(self.discount(length, c) for c in self.after[context]) / total * lower

  def log_probs(self, documents):
    values = []
    for document in documents:
      text = ["<s>", *document, END]
      for last in range(1, len(text)):
        context = tuple(text[max(0, last - self.order + 1) : last])
        values.append(math.log(self.probability(context, text[last])))
    return np.array(values)


@pytest.mark.parametrize("order", range(1, 7))
@pytest.mark.parametrize("seed,count", [(0, 3), (1, 40), (2, 150)])
def test_kneser_ney_equals_dictionaries(order, seed, count):
  documents, heldout = markov(seed, count), markov(seed + 10, 15)
  expected = Dictionaries(documents, order, VOCAB).log_probs(heldout)
  np.testing.assert_allclose(fit(documents, order).log_probs(stream(heldout)), expected, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(documents_of, documents_of, st.integers(1, 6))
def test_kneser_ney_equals_dictionaries_on_any_corpus(documents, heldout, order):
  expected = Dictionaries(documents, order, VOCAB).log_probs(heldout)
  np.testing.assert_allclose(fit(documents, order).log_probs(stream(heldout)), expected, rtol=1e-12)


def test_the_discounts_are_estimated_not_only_the_fallback():
  counts = np.array([1] * 50 + [2] * 20 + [3] * 9 + [4] * 5 + [7] * 3)
  y = 50 / 90
  expected = (1 - 2 * y * 20 / 50, 2 - 3 * y * 9 / 20, 3 - 4 * y * 5 / 9)
  assert KneserNey().discounts(counts, 1) == pytest.approx(expected, rel=1e-15)
  assert KneserNey().discounts(counts[:70], 1) == KneserNey().fallback


@settings(max_examples=100, deadline=None)
@given(documents_of, st.integers(1, 7), smoothings, st.lists(st.integers(0, VOCAB - 1), max_size=9))
def test_probabilities_sum_to_one_after_any_context(documents, order, smoothing, context):
  fitted = fit(documents, order, smoothing)
  probs = fitted.distribution(context)
  assert abs(probs.sum() - 1) < 1e-12
  assert (probs >= 0).all()
  for token in range(VOCAB):  # a stream is scored with the same numbers
    with np.errstate(divide="ignore"):
      expected = np.log(probs[token])
    assert fitted.log_probs([*context, token])[-1] == pytest.approx(expected, rel=1e-12)


def test_a_bigram_model_by_hand():
  # a b | a c, with V = 4 (end, a, b, c): bigrams <s>a 2, ab 1, ac 1, b</s> 1, c</s> 1.
  # Left extensions: a 1, b 1, c 1, end 2, together 5. Discounts 0.5, 1, 1.5 (the fallback).
  fitted = fit([[1, 2], [1, 3]], 2, vocab_size=4)
  unigram_left = (0.5 * 3 + 1) / 5 / 4
  a, b, end = 0.5 / 5 + unigram_left, 0.5 / 5 + unigram_left, 1 / 5 + unigram_left
  after_start = fitted.distribution([])
  np.testing.assert_allclose(after_start[[1, 2, 0]], [0.5 + 0.5 * a, 0.5 * b, 0.5 * end])
  after_a = fitted.distribution([1])
  np.testing.assert_allclose(after_a[[2, 0]], [0.25 + 0.5 * b, 0.5 * end])
  expected = np.log([0.5 + 0.5 * a, 0.25 + 0.5 * b, 0.5 + 0.5 * end])
  np.testing.assert_allclose(fitted.log_probs([1, 2, 0]), expected)


def nltk_model(documents, order, discount):
  """NLTK's model, its texts opened by one <s> like ours and not by order - 1."""
  lm = pytest.importorskip("nltk.lm")
  ngrams = pytest.importorskip("nltk.util").everygrams
  texts = [["<s>", *map(str, document), "</s>"] for document in documents]
  model = lm.KneserNeyInterpolated(order, discount=discount)
  model.fit(
    [list(ngrams(text, max_len=order)) for text in texts],
    [word for text in texts for word in text],
  )
  return model


@pytest.mark.parametrize("order,discount", [(2, 0.1), (2, 0.75), (3, 0.4), (4, 0.6)])
def test_kneser_ney_equals_nltk_given_its_one_discount(order, discount):
  # Where the definitions agree: NLTK has one discount, none for unigrams, and counts only left
  # extensions in lower orders, so that it has nothing for contexts shorter than its order - 1 at
  # the start of a document. Bigrams agree everywhere, longer n-grams from the first full context.
  documents, heldout = markov(3, 60), markov(4, 12)
  fixed = ((0.0,) * 3, *((discount,) * 3,) * (order - 1))
  ours = fit(documents, order, KneserNey(fixed))
  theirs = nltk_model(documents, order, discount)
  known = {token for document in documents for token in document}
  compared = 0
  for document in heldout:
    if not set(document) <= known:
      continue
    text = ["<s>", *map(str, document), "</s>"]
    log_probs = ours.log_probs([*document, END])
    for last in range(order - 1, len(text)):
      context = text[last - order + 1 : last]
      if any(not theirs.counts[tuple(context[i:])].N() for i in range(order - 1)):
        continue  # NLTK divides by zero after a context it never saw
      expected = math.log(theirs.score(text[last], context))
      assert log_probs[last - 1] == pytest.approx(expected, rel=1e-6)
      compared += 1
  assert compared > 20


def test_bigrams_of_names_equal_direct_counting():
  names = ["emma", "olivia", "ava", "isabella", "sophia", "mia", "amelia", "eva"]
  tokens = stream([[ord(c) - ord("a") + 1 for c in name] for name in names])
  pairs = collections.Counter(zip([END, *tokens[:-1]], tokens))
  firsts = collections.Counter([END, *tokens[:-1]])
  likely, added = 0.0, 0.0
  for (first, second), count in pairs.items():
    likely -= count * math.log(pairs[first, second] / firsts[first])
    added -= count * math.log((pairs[first, second] + 1) / (firsts[first] + 27))
  for smoothing, expected in ((MAXIMUM_LIKELIHOOD, likely), (Additive(1), added)):
    fitted = NGram(2, smoothing).fit(tokens, vocab_size=27, end=END)
    assert -fitted.log_probs(tokens).sum() == pytest.approx(expected, rel=1e-12)


def test_additive_smoothing_is_a_ratio_of_counts_at_any_order():
  # After <s> a: b 1, c 1; after a b: end 1. A context never seen is uniform, also under 0.
  for added in (0, 1, 0.25):
    fitted = fit([[1, 2], [1, 3]], 3, Additive(added), vocab_size=4)
    after_opening_a = (np.array([0, 0, 1, 1]) + added) / (2 + 4 * added)
    np.testing.assert_allclose(fitted.distribution([1]), after_opening_a)
    np.testing.assert_allclose(
      fitted.distribution([]), (2 * np.eye(4)[1] + added) / (2 + 4 * added)
    )
    np.testing.assert_allclose(fitted.distribution([3, 3]), 0.25)


def test_documents_do_not_see_each_other():
  documents = markov(5, 30)
  fitted = fit(documents, 4)
  apart = np.concatenate([fitted.log_probs([*document, END]) for document in documents])
  np.testing.assert_array_equal(fitted.log_probs(stream(documents)), apart)


def test_longer_contexts_help_on_a_chain_that_needs_them():
  cycle = np.tile([1, 2, 1, 3, 1, 4], 50)
  losses = [-fit([cycle], order).log_probs([*cycle, END]).mean() for order in (1, 2, 3)]
  assert losses[0] > losses[1] > losses[2]
  assert losses[2] < 0.1


def test_measures_are_those_of_a_neural_model():
  documents = markov(6, 20)
  fitted, tokens = fit(documents, 3), stream(documents)
  bytes_of = np.array([0, 1, 2, 3, 1, 1])
  measured = fitted.measure(tokens, bytes_of)
  nats = -fitted.log_probs(tokens)
  values = metrics.means(measured)
  assert values["loss"] == values["nats"] == pytest.approx(nats.mean(), rel=1e-12)
  assert values["perplexity"] == pytest.approx(math.exp(nats.mean()), rel=1e-12)
  bits = nats.sum() / math.log(2) / bytes_of[tokens].sum()
  assert values["bits_per_byte"] == pytest.approx(bits, rel=1e-12)
  error = nats.std(ddof=1) / math.sqrt(len(nats))
  assert measured["loss"].standard_error() == pytest.approx(error, rel=1e-9)


def test_samples_follow_the_model_and_end_with_end_of_text():
  fitted = fit([[1, 2, 3]], 3, MAXIMUM_LIKELIHOOD)
  rng = np.random.default_rng(0)
  assert fitted.sample([], 10, rng).tolist() == [1, 2, 3, END]
  assert fitted.sample([1], 1, rng, temperature=0).tolist() == [2]
  fitted = fit(markov(7, 30), 3)
  draws = [fitted.sample([1, 2], 1, rng, temperature=0.5)[0] for _ in range(4000)]
  sharp = fitted.distribution([1, 2]) ** 2
  frequencies = np.bincount(draws, minlength=VOCAB) / 4000
  np.testing.assert_allclose(frequencies, sharp / sharp.sum(), atol=0.03)


def test_a_saved_model_is_the_same_model(tmp_path):
  fitted, tokens = fit(markov(8, 20), 4), stream(markov(9, 5))
  fitted.save(tmp_path / "model")
  loaded = FittedNGram.load(tmp_path / "model")
  np.testing.assert_array_equal(loaded.log_probs(tokens), fitted.log_probs(tokens))
  np.savez(tmp_path / "other.npz", x=np.zeros(1))
  (tmp_path / "text").write_text("not an archive")
  for other in ("other.npz", "text"):
    with pytest.raises(UserError, match="no n-gram model"):
      FittedNGram.load(tmp_path / other)


@pytest.mark.parametrize(
  "mistake,message",
  [
    (lambda: NGram(order=0), "order=0"),
    (lambda: NGram(2).fit(np.zeros(0, np.int32), vocab_size=4, end=0), "empty"),
    (lambda: NGram(2).fit(np.array([1, 4]), vocab_size=4, end=0), "token 4 is outside"),
    (lambda: NGram(2).fit(np.array([1, -1]), vocab_size=4, end=0), "token -1 is outside"),
    (lambda: NGram(2).fit(np.array([1, 2]), vocab_size=4, end=9), "token 9 is outside"),
    (lambda: NGram(2).fit(np.array([1.5]), vocab_size=4, end=0), "integers"),
    (lambda: fit([[1]], 2).log_probs([VOCAB]), "outside"),
    (lambda: Additive(-1), "added=-1"),
    (lambda: KneserNey(((2.0, 1.0, 1.0),)), "discounts"),
    (lambda: fit([[1]], 2, KneserNey(((0.5, 1.0, 1.5),))), "order 2"),
  ],
)
def test_mistakes_are_explained(mistake, message):
  with pytest.raises(UserError, match=message):
    mistake()
