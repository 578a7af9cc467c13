"""Pairs of texts come as rows that hold them whole, apart, and every one once; spans come back."""

import gzip

import numpy as np
import pytest

from research import data, models, scores
from research.data import pipeline
from research.data.span_corruption import spans
from research.errors import UserError
from research.generate import texts
from research.generate.translation import Target

PAIRS = [(f"number {i} of many", "x" * (i % 7) + str(i)) for i in range(60)]


def lines(folder, pairs=PAIRS, names=("a.en", "a.de")):
  for name, side in zip(names, zip(*pairs)):
    (folder / name).write_text("\n".join(side) + "\n")
  return data.LineAligned(*(str(folder / name) for name in names))


@pytest.fixture
def dataset(tmp_path):
  heldout = lines(tmp_path, [("held out", "out"), *PAIRS[:2]], ("dev.en", "dev.de"))
  return data.Translations(lines(tmp_path), data.Bytes(), 32, 64, heldout=heldout)


def pairs_of(batch, prefix=""):
  """Every pair of a batch, read back from its rows."""
  found = []
  for row in range(len(batch["source"])):
    for number in range(1, batch["segments"][row].max(initial=0) + 1):
      source = batch["source"][row][batch["source_segments"][row] == number]
      here = batch["segments"][row] == number
      tokens, targets = batch["tokens"][row][here], batch["targets"][row][here]
      assert source[-1] == targets[-1] == tokens[0] == 256
      assert (tokens[1:] == targets[:-1]).all()
      assert batch["positions"][row][here].tolist() == list(range(len(tokens)))
      found.append(tuple(bytes(side[:-1].tolist()).decode() for side in (source, targets)))
  return found


def test_every_pair_comes_once_whole_and_with_its_partner(dataset):
  source = dataset.source("train")
  batch = source.take(np.arange(len(source)), 0)
  assert sorted(pairs_of(batch)) == sorted(PAIRS[2:])
  assert len(source) < 30, "several pairs share a row"
  padding = batch["segments"] == 0
  assert not any(batch[key][padding].any() for key in ("tokens", "targets", "positions", "bytes"))
  spelled = sum(len(target) for _, target in PAIRS[2:])
  assert batch["bytes"].sum() == spelled


def test_held_out_pairs_are_not_trained_on_and_keep_their_texts(dataset):
  prepared = dataset.prepare()
  assert prepared.texts() == [("held out", "out"), *PAIRS[:2]]
  heldout = prepared.source("heldout")
  assert pairs_of(heldout.take(np.arange(len(heldout)), 0)) == prepared.texts()


def test_rows_do_not_depend_on_those_beside_them(dataset):
  source = dataset.source("train")
  together = source.take(np.array([3, 0, 5]), 1)
  for i, number in enumerate((3, 0, 5)):
    for key, x in source.take(np.array([number]), 1).items():
      np.testing.assert_array_equal(x[0], together[key][i])
  example = dataset.example()
  assert {k: (x.shape, x.dtype) for k, x in example.items()} == {
    k: (x[:1].shape, x.dtype) for k, x in together.items()
  }
  batches = pipeline.batches(source, 4, seed=0, threads=0)
  assert set(next(batches)) == set(example)


def test_long_pairs_are_left_out_and_counted(tmp_path):
  pairs = [*PAIRS, ("s" * 64, "t"), ("s", "t" * 32), ("u" * 63, "v" * 31)]
  heldout = lines(tmp_path, PAIRS[:1], ("b.en", "b.de"))
  source = data.Translations(lines(tmp_path, pairs), data.Bytes(), 32, 64, heldout=heldout).source(
    "train"
  )
  kept = pairs_of(source.take(np.arange(len(source)), 0))
  assert ("u" * 63, "v" * 31) in kept and ("s" * 64, "t") not in kept
  assert source.note.startswith("2 of 62 pairs have more than 64 tokens of a source or 32")


def test_two_vocabularies_are_learned_apart(tmp_path):
  heldout = lines(tmp_path, PAIRS[:1], ("b.en", "b.de"))
  prepared = data.Translations(
    lines(tmp_path), data.Bytes(), 32, 64, data.SentencePiece(300), heldout
  ).prepare()
  assert (prepared.vocabulary.vocab_size, prepared.source_vocabulary.vocab_size) == (257, 300)
  batch = prepared.source("train").take(np.array([0]), 0)
  words = batch["source"][0][batch["source_segments"][0] == 1]
  assert prepared.source_vocabulary.decode(words).startswith("number ")


@pytest.mark.parametrize("ending", ["tsv", "jsonl", "csv", "headerless.tsv"])
def test_tables_give_the_same_pairs(tmp_path, ending):
  path = tmp_path / f"pairs.{ending}.gz"
  rows = {
    "tsv": ["en\tde", *map("\t".join, PAIRS)],
    "csv": ["en,de", *map(",".join, PAIRS)],
    "jsonl": [f'{{"en": "{a}", "de": "{b}"}}' for a, b in PAIRS],
    "headerless.tsv": [f"{b}\t{a}" for a, b in PAIRS],
  }[ending]
  path.write_bytes(gzip.compress("\n".join(rows).encode()))
  names = (1, 0) if ending == "headerless.tsv" else ("en", "de")
  assert list(data.PairFiles(str(path), *names).read()) == PAIRS


def test_files_of_different_length_say_which_lines(tmp_path):
  lines(tmp_path)
  sides = (tmp_path / "a.de").read_text().split("\n")
  (tmp_path / "a.de").write_text("\n".join([*sides[:20], "", *sides[20:]]))
  pairs = data.LineAligned(str(tmp_path / "a.en"), str(tmp_path / "a.de"))
  with pytest.raises(UserError, match=r"60 lines and .*a.de 61: line 61 of .*a.de has no partner"):
    list(pairs.read())
  with pytest.raises(UserError, match=r"empty on one side only is 21 of .*a.de"):
    list(pairs.read())


def test_bad_lines_are_named(tmp_path):
  path = tmp_path / "pairs.tsv"
  path.write_text("one\teins\ntwo\n")
  with pytest.raises(UserError, match=r"pairs.tsv, line 2: 1 columns"):
    list(data.PairFiles(str(path), 0, 1).read())
  with pytest.raises(UserError, match=r"no field 'source'"):
    list(data.PairFiles(str(path)).read())
  with pytest.raises(UserError, match="there is no file"):
    data.LineAligned(str(path), "nowhere").fingerprint()
  with pytest.raises(UserError, match="none of 2 pairs fits"):
    path.write_text("one\teins\ntwo\tzwo\n")
    everything = data.PairFiles(str(path), 0, 1)
    data.Translations(data.UnicodeNames(), data.Bytes(), 2, heldout=everything).source("heldout")
  with pytest.raises(UserError, match=r"all pairs .* are held out"):
    data.Translations(everything, data.Bytes(), 8, heldout=everything).source("train")


def test_a_limit_leaves_out_pairs_and_cuts_none(tmp_path):
  def kept(limit):
    whole = data.Translations(
      lines(tmp_path), data.Bytes(), 32, 64, split=data.ByHash(0.0), limit=limit
    )
    source = whole.source("train")
    return set(pairs_of(source.take(np.arange(len(source)), 0)))

  assert kept(30) < kept(200) < kept(10_000) == set(PAIRS)
  with pytest.raises(
    UserError, match=r"limit=12 is less than the \d+ bytes of a pair; choose more"
  ):
    kept(12)


def test_a_pair_of_which_cleaning_leaves_one_side_is_none(tmp_path):
  pairs = [("\x01", "foo"), ("foo", "\ufeff \x02"), *PAIRS]
  whole = data.Translations(lines(tmp_path, pairs), data.Bytes(), 32, 64, split=data.ByHash(0.0))
  source = whole.source("train")
  assert sorted(pairs_of(source.take(np.arange(len(source)), 0))) == sorted(PAIRS)
  assert whole.prepare().cleaning.empty == 2


def test_a_txt_has_no_columns(tmp_path):
  (tmp_path / "a.txt").write_text("one\n")
  with pytest.raises(
    UserError, match=r"a\.txt: a \.txt has no columns; name it \.jsonl, \.csv, \.tsv"
  ):
    list(data.PairFiles(str(tmp_path / "a.txt")).read())


def test_pairs_are_held_out_whole():
  with pytest.raises(UserError, match=r"split=Tail\(heldout=0\.1\) cuts texts, .*give ByHash"):
    data.Translations(data.UnicodeNames(), data.Bytes(), 8, split=data.Tail(0.1))


def corrupted(length=34, **settings):
  words = data.SentencePiece(600, special=data.SENTINELS)
  text = data.Text(data.TFDS("python_docs"), words, length, limit=100_000)
  return data.SpanCorruption(text, **settings)


def test_a_target_says_what_the_sentinels_of_its_source_stand_for():
  dataset = corrupted()
  source, vocabulary = dataset.source("train"), dataset.prepare().vocabulary
  sentinels = [vocabulary.special[name] for name in data.SENTINELS]
  batch = source.take(np.arange(20), 1)
  text = dataset.prepare().source("train").take(np.arange(20), 1)["tokens"]
  for row in range(20):
    *left, end = batch["source"][row]
    *target, their_end = batch["targets"][row]
    assert end == their_end == batch["tokens"][row][0] == vocabulary.end
    spans, order = {}, []
    for token in target:
      if token in sentinels:
        order.append(token)
        spans[token] = []
      else:
        spans[order[-1]].append(token)
    assert order == sentinels[: len(order)] == [token for token in left if token in sentinels]
    restored = [t for token in left for t in spans.get(token, [token])]
    assert restored == text[row].tolist()
  shapes = {key: x.shape[1:] for key, x in batch.items()}
  assert shapes == {key: x.shape[1:] for key, x in dataset.example().items()}


def test_full_rows_have_the_paper_s_lengths():
  text = data.Text(data.TFDS("c4"), data.SentencePiece(32_000), 568)
  example = data.SpanCorruption(text).example()
  assert (example["source"].shape[1], example["targets"].shape[1]) == (512, 114)


def test_spans_are_as_many_as_asked_for_and_everywhere_alike():
  cut = spans(15, 5, np.random.RandomState(0).rand(20_000, 100))
  assert (cut.sum(axis=1) == 15).all()
  begins = cut & ~np.pad(cut, ((0, 0), (1, 0)))[:, :-1]
  assert (begins.sum(axis=1) == 5).all()
  assert cut[:, 0].sum() == 0 and cut[:, -1].all(), "the kinds take turns, and a cut one is last"
  assert abs(cut[:, 20:50].mean() - cut[:, 50:80].mean()) < 0.01


def test_other_epochs_and_seeds_cut_other_spans():
  first = corrupted().source("train").take(np.arange(3), 0)["source"]
  assert (first == corrupted().source("train").take(np.arange(3), 0)["source"]).all()
  assert (first != corrupted(seed=1).source("train").take(np.arange(3), 0)["source"]).any()
  assert (first != corrupted().source("train").take(np.arange(3), 1)["source"]).any()


def test_a_vocabulary_with_too_few_sentinels_is_told():
  text = data.Text(data.TFDS("python_docs"), data.Bytes(), 34, limit=100_000)
  with pytest.raises(UserError, match="loses 2 spans, and the vocabulary has 0 of the sentinels"):
    data.SpanCorruption(text).source("train")


class Echo:
  """What `Translated` asks of a dataset, of three pairs."""

  vocabulary = source_vocabulary = data.Bytes().fit()

  def prepare(self):
    return self

  def texts(self):
    return [("a", "the cat sat on the mat"), ("b", "ein Hund"), ("c" * 99, "x")]


def test_translations_are_scored_by_sacrebleu(monkeypatch):
  written = {b"a": "the cat sat on a mat", b"b": "ein Hund"}

  def translations(model, params, sources, *, begin, end, **settings):
    del params, settings
    assert begin == (256,) and end == 256
    for i, source in reversed(list(enumerate(sources))):
      assert source[-1] == 256 and len(source) <= model.max_length
      text = written.get(bytes(source[:-1].tolist()), "?")
      yield i, Target(np.array([*text.encode(), 256]), -1.0)

  monkeypatch.setattr(texts, "translations", translations)
  model = models.Transformer(vocab_size=257, max_length=16, width=8, depth=1, heads=1)
  found = scores.Translated(rows=2).total(model, None, Echo())
  import sacrebleu

  hypotheses, references = ["the cat sat on a mat", "ein Hund", "?"], [t for _, t in Echo().texts()]
  assert found["bleu"].mean() == sacrebleu.corpus_bleu(hypotheses, [references]).score
  assert found["chrf"].mean() == sacrebleu.corpus_chrf(hypotheses, [references]).score
  assert found["cut"].mean() == pytest.approx(1 / 3)
  assert scores.Translated(rows=2).total(model, None, Echo(), lambda: True) is None
  with pytest.raises(UserError, match="tokenize='13b' is not one of 13a"):
    scores.Translated("13b")
  monkeypatch.setattr(Echo, "texts", lambda self: [])
  with pytest.raises(UserError, match="no pairs are held out to translate; give files"):
    scores.Translated().total(model, None, Echo())


def test_what_leads_a_source_takes_some_of_its_room(monkeypatch):
  def translations(model, params, sources, **settings):
    for i, source in enumerate(sources):
      assert source[0] == 7 and source[-1] == 256 and len(source) <= model.max_length
      yield i, Target(np.array([*source[1:-1], 256]), -1.0)

  monkeypatch.setattr(texts, "translations", translations)
  model = models.Transformer(vocab_size=257, max_length=16, width=8, depth=1, heads=1)
  words = texts.Words(Echo.vocabulary, Echo.vocabulary)
  found = texts.write(model, None, words, ["a" * 14, "a" * 15], tokens=1, lead=(7,))
  assert [(item.text, item.left_out) for item in found] == [("a" * 14, 0), ("a" * 14, 1)]
