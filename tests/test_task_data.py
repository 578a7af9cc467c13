"""Files of one's own become rows with labels, tags and spans in place, or a line says why."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from research import data
from research.data import offsets, questions, tag_schemes, tagged
from research.data.clean import digest
from research.errors import UserError

FEW = data.ByHash(heldout=0.0)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
  """A tokenizer that has learned what it will."""
  text = ["the quick brown fox jumps over the lazy dog " * 9, "zürich 漢字 äöü 12345"] * 9
  run = tmp_path_factory.mktemp("run")
  data.SentencePiece(316, special=data.MARKS).fit(text).save(run / "vocabulary")
  return data.FromRun(str(run))


@pytest.fixture
def vocabulary(words):
  return words.fit()


def table(path, rows, names=("text", "label")):
  with open(path, "w", newline="") as file:
    writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
    writer.writerows([names, *rows])
  return data.LabelledFile(str(path))


TEXTS = [(f"text {i}, number {i * 7}", "ab"[i % 2]) for i in range(40)]


def test_rows_are_start_text_end_with_the_number_of_their_label(tmp_path, words):
  dataset = data.Labelled(table(tmp_path / "a.csv", TEXTS), words, 24, split=FEW)
  prepared = dataset.prepare()
  batch = prepared.source("train").take(np.arange(40), 0)
  special = prepared.vocabulary.special
  for row, (text, label) in zip(range(40), TEXTS):
    tokens = batch["tokens"][row][batch["segments"][row] > 0]
    assert (tokens[0], tokens[-1]) == (special["[CLS]"], special["[SEP]"])
    assert prepared.vocabulary.decode(tokens[1:-1]) == text
    assert prepared.labels.names[batch["label"][row]] == label
  example = dataset.example()
  assert {k: (x.shape[1:], x.dtype) for k, x in example.items()} == {
    k: (x.shape[1:], x.dtype) for k, x in batch.items()
  }


def test_fewer_records_are_a_part_of_more_and_another_draw_is_another_part(tmp_path):
  def kept(limit, draw=0):
    dataset = data.Labelled(
      table(tmp_path / "a.csv", TEXTS),
      data.Bytes(),
      24,
      split=FEW,
      limit=limit,
      draw=draw,
      marks=(None,) * 3,
    )
    return {record["texts"][0] for record in dataset.prepare().records("train")}

  assert len(kept(10)) == 10 and kept(10) < kept(20) and kept(10, 3) < kept(20, 3)
  assert kept(10) != kept(10, 3) != kept(10, 4)


def test_word_dropout_hides_a_share_of_the_words_of_training_and_others_in_every_epoch(
  tmp_path, words
):
  texts = table(tmp_path / "a.csv", TEXTS)
  whole = data.Labelled(texts, words, 24, heldout=texts)
  dropped = dataclasses.replace(whole, word_dropout=0.4)
  every = np.arange(40)

  def rows(dataset, split="train", epoch=0, indices=every):
    return dataset.source(split).take(indices, epoch)["tokens"]

  plain, special = rows(whole), whole.prepare().vocabulary.special
  hidden = np.stack([rows(dropped, epoch=n) == special["[MASK]"] for n in range(50)])
  of_words = (plain > 0) & ~np.isin(plain, [special[mark] for mark in data.MARKS])
  assert not hidden[:, ~of_words].any()
  share = hidden[:, of_words].mean()
  assert abs(share - 0.4) < 4 * np.sqrt(0.4 * 0.6 / hidden[:, of_words].size)
  assert (hidden[0] != hidden[1]).any()
  np.testing.assert_array_equal(np.where(hidden[0], plain, rows(dropped)), plain)
  np.testing.assert_array_equal(rows(dropped, indices=every[7:9]), rows(dropped)[7:9])
  np.testing.assert_array_equal(rows(dropped, "heldout"), rows(whole, "heldout"))
  with pytest.raises(UserError, match=r"word_dropout=1.0 is not a share"):
    dataclasses.replace(whole, word_dropout=1.0)


@pytest.mark.parametrize("ending", ["tsv", "jsonl"])
def test_other_tables_give_the_same_records(tmp_path, ending):
  path = tmp_path / f"a.{ending}"
  if ending == "jsonl":
    path.write_text("\n".join(json.dumps({"text": t, "label": x}) for t, x in TEXTS))
  else:
    table(path, TEXTS)
  found = [(r["texts"][0], r["label"]) for r in data.LabelledFile(str(path)).read()]
  assert found == TEXTS


def test_pairs_are_two_segments_and_the_longer_one_is_cut(tmp_path, words, capsys):
  rows = [("a" * 50, "b" * 10, "x"), ("c", "d", "y")] * 20
  pairs = data.LabelledFile(str(tmp_path / "p.csv"), pair="pair")
  table(tmp_path / "p.csv", rows, ("text", "pair", "label"))
  dataset = data.Labelled(pairs, words, 16, split=FEW)
  batch = dataset.source("train").take(np.arange(2), 0)
  assert (batch["segments"][0] > 0).all() and set(batch["segments"][0]) == {1, 2}
  assert set(batch["segments"][1]) == {0, 1, 2}
  assert "20 of 40 texts have more than 16 tokens" in capsys.readouterr().err
  decoder = data.Labelled(pairs, data.Bytes(), 16, marks=(None, None, None))
  arrays, cut = decoder.encode(data.Bytes().fit(), [{"texts": ["ab", "c"]}])
  assert arrays["tokens"][0, :6].tolist() == [256, 97, 98, 256, 99, 256] and cut == 0


@pytest.mark.parametrize(
  ("rows", "said"),
  [
    ([("a", "x"), ("", "y")], r"a.csv, line 3: 'text' is empty"),
    ([("a", "x"), ("b", "")], r"a.csv, line 3: the label is empty"),
    ([("a", "x"), ("b",)], r"a.csv, line 3: the row ends before column 'label'"),
    ([("a", "x"), ("b", "y"), ("c", "z")], r"has 3 labels \(x, y, z\).*give labels=3"),
  ],
)
def test_a_bad_table_is_one_line(tmp_path, rows, said):
  with pytest.raises(UserError, match=said):
    data.Labelled(table(tmp_path / "a.csv", rows), data.Bytes(), 16, split=FEW).prepare()


def test_a_label_of_no_training_is_told_with_its_line(tmp_path):
  heldout = table(tmp_path / "b.csv", [("t", "a"), ("u", "bb")])
  train = table(tmp_path / "a.csv", [("t", "aa"), ("u", "bb")])
  dataset = data.Labelled(train, data.Bytes(), 16, heldout=heldout, marks=(None,) * 3)
  with pytest.raises(UserError, match=r"b.csv, line 2: the label 'a' is not in the training file"):
    dataset.prepare()


def test_a_label_that_only_held_out_records_have_is_one_of_the_training_file(tmp_path):
  rule = data.ByHash(heldout=0.1)
  texts = [f"rare {i}" for i in range(100)]
  rare = texts[rule.divide(texts, [digest(text) for text in texts])["heldout"][0]]
  train = table(tmp_path / "a.csv", [*TEXTS, (rare, "rare")])
  dataset = data.Labelled(train, data.Bytes(), 24, 3, split=rule, marks=(None,) * 3)
  prepared = dataset.prepare()
  assert prepared.labels.names == ("a", "b", "rare")
  assert "rare" in {record["label"] for record in prepared.records("heldout")}
  with pytest.raises(UserError, match=r"has 3 labels \(a, b, rare\).*give labels=3"):
    dataclasses.replace(dataset, labels=2).prepare()


def test_a_label_that_is_half_a_character_becomes_a_whole_one(tmp_path):
  rows = ({"text": text, "label": label.replace("b", "\ud800")} for text, label in TEXTS)
  (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
  train = data.LabelledFile(str(tmp_path / "a.jsonl"))
  prepared = data.Labelled(train, data.Bytes(), 24, split=FEW, marks=(None,) * 3).prepare()
  assert prepared.labels.names == ("a", "\ufffd")


def test_labels_that_changed_since_training_are_told(tmp_path):
  path = tmp_path / "labels.json"
  data.Labels(["a", "b"]).save(path)
  data.Labels(["a", "b"]).save(path)
  with pytest.raises(UserError, match=r"changed since .* was trained \(without b; with c\)"):
    data.Labels(["a", "c"]).save(path)


IOB2 = ["O", "B-X", "I-X", "B-X", "B-Y", "O", "O", "B-X"]
FOUND = [("X", 1, 3), ("X", 3, 4), ("Y", 4, 5), ("X", 7, 8)]


@pytest.mark.parametrize(
  ("scheme", "tags"),
  [
    ("IOB2", IOB2),
    ("IOB1", ["O", "I-X", "I-X", "B-X", "I-Y", "O", "O", "I-X"]),
    ("BIOES", ["O", "B-X", "E-X", "S-X", "S-Y", "O", "O", "S-X"]),
  ],
)
def test_three_schemes_spell_the_same_entities(scheme, tags):
  found = tag_schemes.entities(tags, scheme)
  assert found == FOUND
  assert tag_schemes.spelled(found, 8) == IOB2


@pytest.mark.parametrize(
  ("scheme", "tags", "said"),
  [
    ("IOB2", ["O", "I-X"], "word 2: 'I-X' follows 'O', and goes on with nothing"),
    ("IOB2", ["B-X", "I-Y"], "word 2: 'I-Y' follows 'B-X'"),
    ("IOB2", ["B-X", "S-X"], "word 2: 'S-X' is no tag of IOB2"),
    ("IOB2", ["X"], "word 1: 'X' is no tag of IOB2"),
    ("BIOES", ["B-X", "O"], "word 1: 'B-X' is followed by 'O', but E-X must end"),
    ("BIOES", ["B-X"], "followed by nothing"),
    ("BIOES", ["E-X"], "word 1: 'E-X' follows nothing"),
  ],
)
def test_a_broken_sequence_is_told_with_its_word(scheme, tags, said):
  with pytest.raises(UserError, match=said):
    tag_schemes.entities(tags, scheme)


def conll(path, sentences):
  path.write_text("\n\n".join("\n".join(f"{w}\t{t}" for w, t in s) for s in sentences) + "\n")
  return data.CoNLL(str(path))


def test_tags_stand_at_first_tokens_and_long_sentences_lose_no_word(tmp_path, words):
  long = [
    (f"w{'o' * (i % 9)}rd{i}", "B-P" if i % 5 == 0 else "I-P" if i % 5 == 1 else "O")
    for i in range(40)
  ]
  sentences = [long, [("Ada", "B-P"), ("Lovelace", "I-P"), ("wrote", "O")]] * 3
  source = conll(tmp_path / "a.conll", sentences)
  dataset = data.Tagged(source, words, 32, 1, split=FEW)
  prepared = dataset.prepare()
  numbers_of, tags, owner = (prepared.array("train", key) for key in ("words", "tags", "record"))
  for number, sentence in enumerate(sentences):
    rows = np.flatnonzero(owner == number)
    seen = np.concatenate([numbers_of[row][numbers_of[row] > 0] for row in rows])
    assert seen.tolist() == list(range(1, len(sentence) + 1))
    numbers = np.concatenate([tags[row][numbers_of[row] > 0] for row in rows])
    expected = tag_schemes.entities([tag for _, tag in sentence], "IOB2")
    assert tagged.entities_of(numbers, prepared.labels) == expected
    for row in rows[1:]:  # no entity is cut
      assert tags[row][numbers_of[row] > 0][0] != 2
  assert not tags[numbers_of == 0].any()


def test_a_broken_sentence_is_told_with_its_line_or_left_out(tmp_path, capsys):
  sentences = [[("a", "O")], [("b", "O"), ("c", "I-P")], [("d", "B-P")], [("e", "O")]]
  source = conll(tmp_path / "a.conll", sentences)
  with pytest.raises(UserError, match=r"a.conll, line 3, word 2: 'I-P' follows 'O'"):
    list(source.read())
  kept = list(data.CoNLL(source.path, skip=0.5).read())
  assert len(kept) == 3 and "1 of 4 records" in capsys.readouterr().err
  assert len(list(data.CoNLL(source.path, "IOB1").read())) == 4


CONTEXTS = ["the quick brown fox jumps over the lazy dog", "zürich 漢字 🎉 äöü 12345 \u2581x"]


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_tokens_know_their_characters(kind, vocabulary):
  words = data.Bytes().fit() if kind == "bytes" else vocabulary
  for text, (ids, places) in zip(CONTEXTS, offsets.located(words, CONTEXTS)):
    assert places[0, 0] == 0 and places[-1, 1] == len(text)
    assert (places[:, 0] < places[:, 1]).all() and (np.diff(places[:, 0]) >= 0).all()
    assert (ids == words.encode(text)).all()
    for i, (begin, end) in zip(ids, places):
      piece = words.decode([i])
      assert "\ufffd" in piece or piece == text[begin:end]


def test_tokens_of_a_bert_know_their_characters(tmp_path):
  pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "zurich", "is", "nice", "##r", "."]
  (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
  words = data.HuggingFace(str(tmp_path)).fit()
  text = "Zürich  is nicer."
  ((_, places),) = offsets.located(words, [text])
  assert [text[a:b] for a, b in places] == ["Zürich", "is", "nice", "r", "."]


def test_answers_stand_in_every_window_that_holds_them(words, vocabulary):
  dataset = data.Questions(data.SQuAD("x"), words, 24, stride=6, question=4)
  context = "the quick brown fox jumps over the lazy dog and on it goes with the lazy quick fox"
  begin = context.index("lazy dog")
  record = {"id": "1", "question": "the dog the dog the", "context": context}
  arrays, cut = dataset.encode(vocabulary, [record])
  assert cut == 1 and len(arrays["record"]) > 2
  held = 0
  for row in range(len(arrays["record"])):
    first, last = questions.place(
      arrays["begins"][row], arrays["ends"][row], begin, begin + len("lazy dog")
    )
    if first:
      held += 1
      text = context[arrays["begins"][row, first] : arrays["ends"][row, last]]
      assert text.strip() == "lazy dog"
      assert arrays["segments"][row, first] == arrays["segments"][row, last] == 2
  assert 1 <= held < len(arrays["record"])
  seen = np.concatenate([arrays["begins"][r][arrays["central"][r] > 0] for r in range(row + 1)])
  places = offsets.located(vocabulary, [context])[0][1]
  assert sorted(seen.tolist()) == sorted(places[:, 0].tolist()), "each token is central once"


def squad(path, qas, context="Ada wrote it."):
  whole = {"version": "x", "data": [{"paragraphs": [{"context": context, "qas": qas}]}]}
  path.write_text(json.dumps(whole))
  return data.SQuAD(str(path))


def test_both_versions_of_squad_and_lines_are_read(tmp_path):
  qas = [
    {"id": "q1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]},
    {"id": "q2", "question": "Why?", "answers": [], "is_impossible": True},
  ]
  found = list(squad(tmp_path / "a.json", qas).read())
  assert [(r["id"], r["answers"]) for r in found] == [("q1", [[0, 3]]), ("q2", [])]
  lines = [
    {"question": "Who?", "context": "Ada wrote it.", "start": 0, "end": 3},
    {"question": "Why?", "context": "Ada wrote it.", "start": None, "end": None},
  ]
  (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
  assert [r["answers"] for r in data.SQuAD(str(tmp_path / "a.jsonl")).read()] == [[[0, 3]], []]


@pytest.mark.parametrize(
  ("answer", "said"),
  [
    ({"text": "Ada", "answer_start": 12}, r"question q1: the answer lies at characters 12 to 15, "),
    ({"text": "Ada", "answer_start": 1}, r"the answer 'Ada' should begin at character 1, where"),
    ({"text": "Ada"}, r"needs a text and an answer_start"),
    ({"text": "", "answer_start": 0}, r"lies at characters 0 to 0"),
  ],
)
def test_spans_outside_the_text_are_one_line(tmp_path, answer, said):
  qas = [{"id": "q1", "question": "Who?", "answers": [answer]}]
  with pytest.raises(UserError, match=said):
    list(squad(tmp_path / "a.json", qas).read())


def test_an_answer_is_without_the_white_space_at_its_edges(tmp_path):
  qas = [{"id": "q1", "question": "What?", "answers": [{"text": " wrote ", "answer_start": 3}]}]
  (record,) = squad(tmp_path / "a.json", qas).read()
  assert record["answers"] == [[4, 9]]
  qas = [{"id": "q1", "question": "What?", "answers": [{"text": " ", "answer_start": 3}]}]
  with pytest.raises(UserError, match=r"question q1: the answer ' ' is white space; correct"):
    list(squad(tmp_path / "a.json", qas).read())


def test_what_is_no_squad_says_so(tmp_path):
  (tmp_path / "a.json").write_text('{"data": [{"title": 1}]}')
  with pytest.raises(UserError, match="is not SQuAD's JSON"):
    list(data.SQuAD(str(tmp_path / "a.json")).read())


def test_records_are_held_out_whole(tmp_path, words):
  records = table(tmp_path / "a.csv", TEXTS)
  with pytest.raises(UserError, match=r"split=Tail\(heldout=0\.1\) cuts texts, .*give ByHash"):
    data.Labelled(records, words, 32, labels=2, split=data.Tail(0.1))
  with pytest.raises(UserError, match="leaves heldout empty; choose a larger or smaller share, or"):
    data.Labelled(records, words, 32, labels=2, split=data.ByHash(1e-9)).prepare()


def test_halves_of_characters_become_one_character_and_answers_stay_in_place(tmp_path):
  context = "\ud83d Ada \udc00 wrote it."
  qas = [
    {"id": "q", "question": "Who\ud800?", "answers": [{"text": context[:7], "answer_start": 0}]}
  ]
  (record,) = squad(tmp_path / "a.json", qas, context).read()
  assert record["question"] == "Who\ufffd?" and record["answers"] == [[0, 7]]
  assert record["context"] == "\ufffd Ada \ufffd wrote it."


def test_a_length_without_room_is_refused():
  with pytest.raises(UserError, match="length=20 has no room"):
    data.Questions(data.SQuAD("x"), data.Bytes(), 20, question=16)
