"""Pairs of segments and their masks are the paper's, and a function of (seed, epoch, row)."""

import dataclasses
import io
import time
import types

import numpy as np
import pytest
import rich.console
from hypothesis import given, settings
from hypothesis import strategies as st

from research import data
from research.data import masking
from research.data.draws import uniform
from research.data.pairs import Pairs
from research.data.sentences import sentences
from research.errors import UserError

V = 20_000
CLS, SEP, MASK = V - 3, V - 2, V - 1
L = 64
TEXT = " ".join(f"Word {i * i} says thing {i * 7}, playing." for i in range(200))


@dataclasses.dataclass(frozen=True)
class Given:
  """Documents at hand."""

  texts: tuple[str, ...]

  def fingerprint(self):
    return repr(self.texts)

  def read(self):
    return iter(self.texts)


def dataset(**changes):
  tokens = data.SentencePiece(300, special=data.MARKS)
  given = {"length": L, "rate": 0.15, "short": 0.1, **changes}
  return data.SentencePairs(Given(("A text. It ends.", "Another.")), tokens, **given)


def corpus(documents=40, seed=0):
  """Every token its own number: the boundaries of sentences, and of documents among them."""
  random = np.random.RandomState(seed)
  of_document = random.randint(1, 40, documents)
  ends = np.cumsum(random.randint(1, 25, of_document.sum()))
  return np.append(0, ends), np.append(0, np.cumsum(of_document))


def pairs(**changes):
  starts, documents = corpus()
  words = types.SimpleNamespace(
    vocab_size=V,
    special=dict(zip(data.MARKS, (CLS, SEP, MASK))),
    continues=np.arange(V) % 3 > 0,
  )
  return Pairs(dataset(**changes), words, np.arange(starts[-1]), starts, documents)


def restored(batch):
  """The rows before anything was masked."""
  tokens = batch["tokens"].copy()
  for row, places, targets in zip(tokens, batch["places"], batch["targets"]):
    row[places[places > 0]] = targets[places > 0]
  return tokens


def test_rows_are_marked_segments_that_follow_one_another_or_are_of_two_documents():
  """The paper's procedure, read back from the rows: tokens are their own places in the corpus."""
  starts, documents = corpus()
  document = np.searchsorted(starts[documents], np.arange(starts[-1]), side="right")
  sentence = np.searchsorted(starts, np.arange(starts[-1]), side="right")
  batch = (source := pairs()).take(np.arange(len(source)), 0)
  alone = 0
  for i, row in enumerate(restored(batch)):
    size = (batch["segments"][i] > 0).sum()
    (first, last) = np.flatnonzero(row[:size] == SEP)
    assert row[0] == CLS and last == size - 1 and not row[size:].any()
    assert (batch["segments"][i, :size] == np.repeat([1, 2], [first + 1, last - first])).all()
    a, b = row[1:first], row[first + 1 : last]
    for part in (a, b):
      assert len(part) and (np.diff(part) == 1).all() and len(set(document[part])) == 1
    assert document[a[0]] != document[b[0]] if batch["random"][i] else a[-1] < b[0]
    if not batch["random"][i]:
      assert document[a[0]] == document[b[0]] and sentence[b[0]] > sentence[a[-1]]
      assert b[0] - a[-1] == 1 or size == L  # a gap only where too much was taken away
    alone += source._spans[i + 1] - source._spans[i] == 1
  share = (batch["random"].sum() - alone) / (len(source) - alone)
  assert abs(share - 0.5) < 3 * 0.5 / np.sqrt(len(source) - alone)


def test_epochs_draw_all_of_the_corpus_and_a_tenth_of_the_rows_is_short():
  source = pairs(short=0.0)
  seen, full = set(), []
  for epoch in range(12):
    batch = source.take(np.arange(len(source)), epoch)
    rows = restored(batch)
    seen |= set(rows[(rows < CLS) & (batch["segments"] > 0)])
    full.append(np.mean((batch["segments"] > 0).sum(1) == L))
  assert len(seen) > 0.995 * corpus()[0][-1]
  many = [pairs(short=0.1).take(np.arange(len(source)), epoch) for epoch in range(12)]
  shorter = np.mean([(batch["segments"] > 0).sum(1) == L for batch in many])
  assert 0.87 < shorter / np.mean(full) < 0.95


def brute_force(tokens, free, count, draws, stands_for, vocab_size, continues):
  """One row: words in the order of their numbers, each if all of it is among the first `count`."""
  words = []
  for place in np.flatnonzero(free):
    if words and continues[place] and words[-1][-1] == place - 1:
      words[-1].append(place)
    else:
      words.append([place])
  chosen, used = [], 0
  for word in sorted(words, key=lambda word: draws[0][word[0]]):
    used += len(word)
    chosen += word if used <= count else []
  hidden = tokens.copy()
  for place in chosen:
    if draws[1][place] < 0.8:
      hidden[place] = stands_for
    elif draws[1][place] < 0.9:
      hidden[place] = int(draws[2][place] * vocab_size)
  return hidden, sorted(chosen)


@pytest.mark.parametrize("of_words", [False, True])
def test_masks_are_those_of_a_loop_over_words(of_words):
  random = np.random.RandomState(0)
  tokens, free = random.randint(0, 90, (50, 20)), random.rand(50, 20) < 0.8
  draws, counts = random.rand(50, 3, 20), random.randint(1, 6, 50)
  continues = (random.rand(50, 20) < 0.5) & of_words
  given = {"stands_for": 99, "vocab_size": 90}
  hidden, places, targets = masking.mask(
    tokens, free, counts, draws, room=8, **given, continues_BL=continues if of_words else None
  )
  for b in range(50):
    row, chosen = brute_force(
      tokens[b], free[b], counts[b], draws[b], *given.values(), continues[b]
    )
    np.testing.assert_array_equal(hidden[b], row)
    np.testing.assert_array_equal(places[b], chosen + [0] * (8 - len(chosen)))
    np.testing.assert_array_equal(targets[b], [*tokens[b, chosen], *[0] * (8 - len(chosen))])


def test_a_row_has_15_percent_predictions_of_which_80_are_masked_10_random_and_10_kept():
  source = pairs()
  masked = fresh = kept = 0
  for epoch in range(4):
    batch = source.take(np.arange(len(source)), epoch)
    real = batch["places"] > 0
    sizes = (batch["segments"] > 0).sum(1)
    np.testing.assert_array_equal(real.sum(1), np.maximum(1, np.rint(0.15 * sizes)))
    assert not np.isin(batch["targets"][real], [CLS, SEP]).any()
    read = np.take_along_axis(batch["tokens"], batch["places"], 1)[real]
    masked += (read == MASK).sum()
    kept += (read == batch["targets"][real]).sum()
    fresh += ((read != MASK) & (read != batch["targets"][real])).sum()
  total = masked + fresh + kept
  for count, share in ((masked, 0.8), (fresh, 0.1), (kept, 0.1)):
    assert abs(count / total - share) < 4 * np.sqrt(share * (1 - share) / total)


def test_masks_differ_by_epoch_and_seed_and_depend_on_nothing_else():
  one, again = pairs(), pairs()
  batch = one.take(np.array([5, 2, 9]), 3)
  for name, x in again.take(np.array([2]), 3).items():
    np.testing.assert_array_equal(x[0], batch[name][1], err_msg=name)
  others = [one.take(np.array([5, 2, 9]), 4), pairs(seed=1).take(np.array([5, 2, 9]), 3)]
  assert all((other["places"] != batch["places"]).any(axis=1).all() for other in others)


def test_draws_are_uniform_and_belong_to_their_example():
  x = uniform(7, 3, np.arange(500), 200)
  assert abs(x.mean() - 0.5) < 0.004 and abs(x.var() - 1 / 12) < 0.001
  assert np.histogram(x, 16)[0] == pytest.approx(x.size / 16, rel=0.06)
  np.testing.assert_array_equal(uniform(7, 3, np.array([4, 400]), 9), x[[4, 400], :9])
  assert abs(np.corrcoef(x[0], x[1])[0, 1]) < 0.25 and len(np.unique(x)) == x.size
  first = [uniform(seed, epoch, [0], 1)[0, 0] for seed in range(9) for epoch in range(9)]
  assert len(set(first)) == 81


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("aA.!? \n\"')\u3002\u00e9"), max_size=60))
def test_sentences_joined_are_the_text(text):
  found = sentences(text)
  assert "".join(found) == text
  assert len(found) == 1 or all(sentence.strip() for sentence in found)


def test_sentences_end_at_marks_and_empty_lines_but_not_at_abbreviations():
  text = (
    'Dr. Smith paid 3.50 to J. K. Jones. "Why?" he asked. (No.) A title\n\nbegins, e.g. this\n'
    "line. \u6771\u4eac\u3002\u4eac\u90fd\u3002"
  )
  assert [sentence.strip() for sentence in sentences(text)] == [
    "Dr. Smith paid 3.50 to J. K. Jones.",
    '"Why?" he asked.',
    "(No.)",
    "A title",
    "begins, e.g. this\nline.",
    "\u6771\u4eac\u3002",
    "\u4eac\u90fd\u3002",
  ]


def test_a_long_row_of_marks_takes_no_longer_than_other_text():
  begun = time.process_time()
  text = f"One{'.' * 50_000}two. Three"
  assert [len(found) for found in sentences(text)] == [len(text) - 6, 6]
  assert time.process_time() - begun < 5


PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "play", "##ing", "##ed", "walk", "we")


@pytest.fixture
def word_pieces(tmp_path):
  (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
  return data.HuggingFace(str(tmp_path / "vocab.txt"))


def test_whole_words_of_a_published_vocabulary_are_masked(word_pieces):
  texts = [f"We walked. We {'played ' * n}. Playing we walk. We walk." for n in range(1, 9)]
  given = data.SentencePairs(
    Given(tuple(texts)), word_pieces, 24, 0.3, 0.0, unit="words", split=data.ByHash(0.0)
  )
  source = given.source("train")
  batch = source.take(np.tile(np.arange(len(source)), 5), 0)
  rows, inside = restored(batch), np.array([piece.startswith("##") for piece in PIECES])
  chosen = np.zeros(rows.shape, bool)
  for row, places in zip(chosen, batch["places"]):
    row[places[places > 0]] = True
  joined = inside[rows[:, 1:]]
  assert joined.any() and (chosen[:, 1:] == chosen[:, :-1])[joined].all()
  assert (rows[:, 0] == PIECES.index("[CLS]")).all()
  example = given.example()
  assert {k: (x.shape[1:], x.dtype) for k, x in batch.items()} == {
    k: (x.shape[1:], x.dtype) for k, x in example.items()
  }


def test_a_learned_vocabulary_has_the_marks_and_no_text_spells_them():
  words = data.SentencePiece(320, special=data.MARKS).fit([TEXT])
  assert list(words.special) == list(data.MARKS) and words.vocab_size == 320
  assert not set(words.encode("[CLS] and [MASK]")) & set(words.special.values())
  assert words.decode(words.encode("[MASK]")) == "[MASK]"


def test_pairs_are_shown_as_text_with_their_marks():
  given = data.SentencePairs(
    Given(tuple(TEXT[i : i + 900] for i in range(0, len(TEXT), 900))),
    data.SentencePiece(320, special=data.MARKS),
    *(L, 0.15, 0.1),
    split=data.ByHash(0.4),
  )
  console = rich.console.Console(file=io.StringIO(), width=100)
  numbers = data.preview(given, rows=3, batch_size=4, console=console)
  assert len(numbers["texts"]) == 3 and numbers["splits"]["train"] == len(given.source("train"))
  for text in numbers["texts"]:
    assert text.startswith("[CLS]") and text.endswith("[SEP]") and text.count("[SEP]") == 2
    assert "[MASK]" in text
  assert all(key in console.file.getvalue() for key in ("places", "random", "examples per second"))


@pytest.mark.parametrize(
  ("make", "says"),
  [
    (lambda: dataset(length=7), "length=7 has no room for two segments"),
    (lambda: dataset(rate=0.0), "rate=0.0 is a share of the tokens"),
    (lambda: dataset(short=2.0), "short=2.0 is a share of the rows"),
    (lambda: dataset(unit="letters"), "unit='letters' is neither"),
    (
      lambda: dataclasses.replace(
        dataset(split=data.ByHash(0.0)), tokenizer=data.Bytes()
      ).prepare(),
      r"no \[CLS\] or \[SEP\] or \[MASK\]; use that of a BERT",
    ),
    (
      lambda: data.SentencePairs(
        Given((TEXT,)),
        data.SentencePiece(320, special=data.MARKS),
        *(L, 0.15, 0.1),
        split=data.ByHash(0.0),
      ).source("train"),
      "is from another document, and the split has only one",
    ),
  ],
)
def test_what_cannot_be_is_told(make, says):
  with pytest.raises(UserError, match=says):
    make()
