"""Text: no document in two splits, every prediction once, packing as a plain loop would do it."""

import dataclasses
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research import data
from research.data.packing import Rows
from research.errors import UserError
from research.nn import Mask, show

KEYS = ["tokens", "targets", "segments", "positions", "bytes"]
END = 256


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("RESEARCH_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


@dataclasses.dataclass(frozen=True)
class Given:
  """Documents as they stand."""

  texts: tuple

  def fingerprint(self):
    return repr(self.texts)

  def read(self):
    yield from self.texts


def corpus(count=200, seed=0):
  random = np.random.RandomState(seed)
  words = ["tree", "später", "漢字", "a", "  ", "\n", "\t", "river"]
  return tuple(
    f"{i} " + " ".join(random.choice(words, random.randint(1, 30))) for i in range(count)
  )


def rows(documents, length, moving=False):
  """Rows of documents that are lists of tokens."""
  tokens = [token for document in documents for token in [END, *document]]
  bounds = np.cumsum([0] + [len(document) + 1 for document in documents])
  bytes_of = np.arange(257) % 5
  bytes_of[END] = 0
  return Rows(np.array(tokens, np.uint16), bounds, bytes_of, length, moving)


def packed_by_hand(documents, length, shift):
  """The same rows by plain loops over predictions."""
  stream = []
  for number, document in enumerate(documents):
    for place, pair in enumerate(zip([END, *document], [*document, END])):
      stream.append((*pair, number, place))
  stream = stream[shift % len(stream) :] + stream[: shift % len(stream)]
  out = []
  for start in range(0, len(stream), length):
    row, segment, position, before = [], 0, 0, None
    for token, target, number, place in stream[start : start + length]:
      if place == 0 or before != number:
        segment, position = segment + 1, 0
      row.append((token, target, segment, position, 0 if target == END else target % 5))
      position, before = position + 1, number
    out.append(row + [(0, 0, 0, 0, 0)] * (length - len(row)))
  return np.array(out)


documents_strategy = st.lists(
  st.lists(st.integers(0, 255), min_size=0, max_size=12), min_size=1, max_size=12
)


@settings(max_examples=200, deadline=None)
@given(documents_strategy, st.integers(1, 20), st.integers(0, 3))
def test_packing_equals_plain_loops(documents, length, epoch):
  source = rows(documents, length, moving=True)
  batch = source.take(np.arange(len(source)), epoch)
  expected = packed_by_hand(documents, length, source.shift(epoch))
  for i, key in enumerate(KEYS):
    assert batch[key].dtype == np.int32
    np.testing.assert_array_equal(batch[key], expected[:, :, i], key)


@settings(max_examples=100, deadline=None)
@given(documents_strategy, st.integers(1, 20), st.integers(0, 3))
def test_every_prediction_comes_once_in_every_epoch(documents, length, epoch):
  source = rows(documents, length, moving=True)
  batch = source.take(np.arange(len(source)), epoch)
  real = batch["segments"] > 0
  got = sorted(zip(batch["tokens"][real], batch["targets"][real]))
  expected = [p for document in documents for p in zip([END, *document], [*document, END])]
  assert got == sorted(expected)


def test_rows_can_be_taken_in_any_order():
  source = rows([[1, 2, 3], [4], [5, 6, 7, 8, 9]], 4, moving=True)
  everything = source.take(np.arange(len(source)), 2)
  some = source.take(np.array([2, 0, 2]), 2)
  for key in KEYS:
    np.testing.assert_array_equal(some[key], everything[key][[2, 0, 2]])


def test_windows_differ_between_epochs_and_only_in_train():
  text = data.Text(Given(corpus()), data.Bytes(), 32)
  train, heldout = text.source("train"), text.source("heldout")
  assert len({train.shift(epoch) for epoch in range(10)}) > 3
  assert train.shift(0) == 0
  assert {heldout.shift(epoch) for epoch in range(10)} == {0}


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_no_document_is_in_two_splits(fraction):
  texts = corpus()
  text = data.Text(Given(texts + texts[:50]), data.Bytes(), 32, data.ByHash(heldout=fraction))
  prepared = text.prepare()
  found = {split: set(documents(prepared, split)) for split in ("train", "heldout")}
  assert not found["train"] & found["heldout"]
  assert found["train"] | found["heldout"] == set(texts)
  assert prepared.cleaning.duplicates == 50
  assert abs(len(found["heldout"]) / len(texts) - fraction) < 0.1


def documents(prepared, split):
  """The texts of a split, by way of the accessors that an n-gram model uses."""
  tokens, bounds = prepared.tokens(split), prepared.documents(split)
  assert (tokens[bounds[:-1]] == prepared.vocabulary.end).all()
  assert bounds[-1] == len(tokens)
  return [prepared.vocabulary.decode(tokens[a + 1 : b]) for a, b in itertools.pairwise(bounds)]


def test_a_document_keeps_its_split_when_others_come():
  few = data.Text(Given(corpus(100)), data.Bytes(), 32, data.ByHash(heldout=0.2)).prepare()
  more = data.Text(Given(corpus(100) + corpus(100, 1)), data.Bytes(), 32, data.ByHash(heldout=0.2))
  assert set(documents(few, "heldout")) <= set(documents(more.prepare(), "heldout"))


def test_tail_cuts_every_document_in_characters():
  prepared = data.Text(Given(("äbcdefghij", "0123456789" * 3)), data.Bytes(), 2, data.Tail(0.1))
  prepared = prepared.prepare()
  assert documents(prepared, "train") == ["äbcdefghi", ("0123456789" * 3)[:27]]
  assert documents(prepared, "heldout") == ["j", "789"]


@pytest.mark.parametrize(
  "tokenizer", [data.Bytes(), data.SentencePiece(300), data.SentencePiece(300, "bpe")]
)
@pytest.mark.parametrize("split", [data.ByHash(0.3), data.Tail(0.3)])
def test_the_bytes_of_a_split_are_those_of_its_documents(tokenizer, split):
  prepared = data.Text(Given(corpus()), tokenizer, 32, split).prepare()
  for part in ("train", "heldout"):
    raw = sum(len(text.encode()) for text in documents(prepared, part))
    source = prepared.source(part)
    batch = source.take(np.arange(len(source)), 0)
    assert batch["bytes"].sum() == prepared.raw_bytes(part) == raw


def test_the_tokenizer_learns_from_the_train_split_only():
  texts = corpus()
  prepared = data.Text(Given(texts), data.SentencePiece(300), 32, data.ByHash(0.3)).prepare()
  alone = data.SentencePiece(300).fit(documents(prepared, "train"))
  assert (alone.encode(texts[0]) == prepared.vocabulary.encode(texts[0])).all()
  assert alone._model == prepared.vocabulary._model


@pytest.mark.parametrize("limit", [1, 500, 3000, 10**9])
def test_a_limit_takes_whole_documents_within_so_many_bytes(limit):
  everything = data.Text(Given(corpus()), data.Bytes(), 1)
  limited = dataclasses.replace(everything, limit=limit).prepare()
  everything = everything.prepare()
  assert limited.raw_bytes("train") <= limit
  assert limited.raw_bytes("heldout") == everything.raw_bytes("heldout")
  kept, full = documents(limited, "train"), documents(everything, "train")
  if limit >= 500:
    assert kept == [text for text in full if text in set(kept)]
    assert limited.raw_bytes("train") >= min(limit - 400, everything.raw_bytes("train"))


def test_a_larger_limit_contains_a_smaller_one():
  texts = [
    set(documents(data.Text(Given(corpus()), data.Bytes(), 1, limit=limit).prepare(), "train"))
    for limit in (1000, 4000)
  ]
  assert texts[0] < texts[1]


def test_a_limit_cuts_a_single_document_at_a_character():
  text = data.Text(Given(("ä" * 100,)), data.Bytes(), 2, data.Tail(0.1), limit=11)
  assert documents(text.prepare(), "train") == ["ä" * 5]


def test_preparing_again_reads_no_document():
  read = []

  class Counted(Given):
    def read(self):
      read.append(1)
      yield from self.texts

  text = data.Text(Counted(corpus()), data.Bytes(), 32)
  first = text.prepare()
  assert text.prepare().folder == first.folder
  assert dataclasses.replace(text, length=8).prepare().folder == first.folder
  assert len(read) == 1
  for change in (
    {"split": data.Tail(0.1)},
    {"limit": 2000},
    {"tokenizer": data.SentencePiece(300)},
  ):
    assert dataclasses.replace(text, **change).prepare().folder != first.folder
  assert len(read) == 4


def test_a_damaged_cache_is_prepared_anew(cache):
  text = data.Text(Given(corpus()), data.Bytes(), 32)
  before = np.array(text.prepare().tokens("train"))
  (file,) = cache.glob("text/*/train.tokens.npy")
  file.write_bytes(file.read_bytes()[:200])
  np.testing.assert_array_equal(text.prepare().tokens("train"), before)
  (file.parent / "summary.json").unlink()
  np.testing.assert_array_equal(text.prepare().tokens("train"), before)
  assert [path.name for path in cache.glob("text/*")] == [file.parent.name]
  assert not list(cache.glob("text/.*"))


def test_two_processes_prepare_at_once(tmp_path, cache):
  (tmp_path / "x.txt").write_text("\n".join(corpus(500)))
  code = (
    "from research import data; import sys\n"
    "text = data.Text(data.Files(sys.argv[1], separator='\\n'), data.SentencePiece(300), 16)\n"
    "print(text.prepare().tokens('train').sum())"
  )
  command = [sys.executable, "-c", code, str(tmp_path / "x.txt")]
  running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
  printed = {process.communicate(timeout=60)[0] for process in running}
  assert [process.returncode for process in running] == [0, 0, 0]
  assert len(printed) == 1
  assert len(os.listdir(cache / "text")) == 1


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: data.Text(Given(corpus()), data.Bytes(), 0), "length=0"),
    (lambda: data.Text(Given(corpus()), data.Bytes(), 8, limit=0), "limit=0"),
    (lambda: data.ByHash(heldout=1.5), "heldout=1.5"),
    (lambda: data.Tail(heldout=-1), "heldout=-1"),
    (lambda: data.Text(Given(("one",)), data.Bytes(), 2).prepare(), "use Tail"),
    (lambda: data.Text(Given(("a",)), data.Bytes(), 2, data.Tail(0.1)).prepare(), "split empty"),
    (lambda: data.Text(Given(("  ",)), data.Bytes(), 2, data.Tail(0.1)).prepare(), "no text"),
    (
      lambda: data.Text(Given(("abcdefghij",)), data.Bytes(), 64, data.Tail(0.5)).source("train"),
      "the train split has 6 tokens, less than one row of length=64; choose length=6 or less",
    ),
    (
      lambda: data.Text(Given(corpus()), data.Bytes(), 8).source("held-out"),
      "no split 'held-out'.*Did you mean 'heldout'",
    ),
  ],
)
def test_mistakes_are_told_in_one_line(make, message):
  with pytest.raises(UserError, match=message) as caught:
    make()
  assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_told(tmp_path, monkeypatch):
  (tmp_path / "file").write_text("")
  monkeypatch.setenv("RESEARCH_CACHE", str(tmp_path / "file"))
  with pytest.raises(UserError, match="set RESEARCH_CACHE"):
    data.Text(Given(corpus()), data.Bytes(), 8).prepare()


def test_batches_of_text_have_the_documented_keys():
  text = data.Text(Given(corpus()), data.Bytes(), 32)
  batch = next(data.batches(text.source("train"), 4, seed=0))
  assert {key: (value.shape, str(value.dtype)) for key, value in batch.items()} == dict.fromkeys(
    KEYS, ((4, 32), "int32")
  )


def test_preview_shows_text_and_returns_numbers():
  import io

  import rich.console

  console = rich.console.Console(file=io.StringIO(), width=120)
  text = data.Text(Given(corpus() + corpus()[:3]), data.Bytes(), 64)
  numbers = data.preview(text, rows=2, console=console)
  assert numbers["duplicates"] == 3
  assert numbers["vocab_size"] == 257
  assert numbers["splits"]["train"]["bytes"] == text.prepare().raw_bytes("train")
  assert len(numbers["examples"]) == 2
  assert "tree" in console.file.getvalue()


def test_a_text_of_which_nothing_is_held_out_is_shown_and_has_no_held_out_rows():
  text = data.Text(Given(corpus()), data.Bytes(), 64, data.ByHash(heldout=0.0))
  numbers = data.preview(text, rows=1)
  assert numbers["splits"]["heldout"]["median_document"] == 0
  assert numbers["splits"]["heldout"]["longest_document"] == 0
  with pytest.raises(UserError, match="the heldout split is empty; hold a share above 0 out"):
    text.source("heldout")


def test_the_picture_of_a_mask_is_the_mask():
  segments = np.repeat([1, 2, 0], [3, 2, 1])
  drawn = data.picture(segments, lines=6).splitlines()
  mask = show(Mask(causal=True, segments_BL=segments[None]), 6).splitlines()
  assert drawn == ["".join(2 * c for c in line[: i + 1]) for i, line in enumerate(mask)]
  assert data.picture(segments, lines=2).splitlines() == ["##", "..::"]
