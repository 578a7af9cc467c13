"""Texts and summaries become rows, whole or cut and counted; ROUGE is rouge-score's."""

import json

import numpy as np
import pytest

from research import data, models, rouge
from research.errors import UserError
from research.generate import texts
from research.generate.translation import Target

FEW = data.ByHash(heldout=0.0)
ROWS = [
  {"source": ["One thing. ", "Another."], "target": ["things", "two things"]},
  {"source": "It is long, and goes on. To here.", "target": "x" * 20},
  {"source": "Short.", "target": "s"},
]


def table(path, rows=ROWS):
  path.write_text("\n".join(map(json.dumps, rows)) + "\n")
  return data.SummaryFile(str(path))


def summaries(source, **settings):
  return data.Summaries(source, data.Bytes(), 12, source_length=24, split=FEW, **settings)


def test_records_have_their_first_sentence_and_every_summary(tmp_path):
  first, second, third = table(tmp_path / "a.jsonl").read()
  assert first["source"] == "One thing. Another." and first["lead"] == "One thing."
  assert first["targets"] == ["things", "two things"]
  assert (second["lead"], third["lead"]) == ("It is long, and goes on.", "Short.")
  (tmp_path / "b.csv").write_text('source,target\n"One thing. Another.",things\n')
  (only,) = data.SummaryFile(str(tmp_path / "b.csv")).read()
  assert only == {**first, "targets": ["things"]}


def test_each_summary_makes_a_row_and_long_texts_are_cut_and_counted(tmp_path, capsys):
  dataset = summaries(table(tmp_path / "a.jsonl"))
  batch = dataset.source("train").take(np.arange(4), 0)
  said = capsys.readouterr().err
  assert "1 of 4 texts have more than 23 tokens and 1 of 4 summaries have more than 11" in said
  pairs = [("One thing. Another.", "things"), ("One thing. Another.", "two things")]
  pairs += [("It is long, and goes on. To here."[:23], "x" * 12), ("Short.", "s")]
  for row, (source, target) in enumerate(pairs):
    read, here = (batch[key][row] > 0 for key in ("source_segments", "segments"))
    assert bytes(batch["source"][row][read][:-1].tolist()).decode() == source
    assert batch["source"][row][read][-1] == batch["tokens"][row][0] == 256
    learned = batch["targets"][row][here]
    assert (batch["tokens"][row][here][1:] == learned[:-1]).all()
    end = [] if target == "x" * 12 else [256]  # a summary that was cut does not end there
    assert learned.tolist() == [*target.encode(), *end]
    assert batch["positions"][row][here].tolist() == list(range(here.sum()))
  example = dataset.example()
  assert {k: (x.shape[1:], x.dtype) for k, x in batch.items()} == {
    k: (x.shape[1:], x.dtype) for k, x in example.items()
  }


def test_the_texts_alone_are_documents(tmp_path):
  source = table(tmp_path / "a.jsonl")
  assert list(data.Sources(source).read()) == [record["source"] for record in source.read()]


@pytest.mark.parametrize(
  ("row", "said"),
  [
    ({"text": "a", "target": "b"}, "line 1: no field 'source'; there are: text, target"),
    ({"source": "a"}, "line 1: no field 'target'"),
    ({"source": " ", "target": "b"}, "line 1: 'source' is empty"),
    ({"source": [], "target": "b"}, "line 1: 'source' is empty"),
    ({"source": "a", "target": [3]}, r"line 1: target=\[3\] is no list of texts"),
    ({"source": "a", "target": 3}, "line 1: field 'target' is a int"),
  ],
)
def test_what_is_no_summary_is_told_with_its_line(tmp_path, row, said):
  with pytest.raises(UserError, match=said):
    list(table(tmp_path / "a.jsonl", [row]).read())


def test_lengths_without_room_are_told(tmp_path):
  with pytest.raises(UserError, match="source_length=4 has no room"):
    data.Summaries(table(tmp_path / "a.jsonl"), data.Bytes(), 12, source_length=4)
  (tmp_path / "a.txt").write_text("text\n")
  with pytest.raises(UserError, match=r"a .txt has no columns"):
    list(data.SummaryFile(str(tmp_path / "a.txt")).read())


def test_rouge_is_that_of_lin_with_the_best_reference():
  # Of "police killed the gunman": three of four words, one of three pairs (Lin, 2004, section 3).
  found = rouge.compare(["police kill the gunman"], [["police killed the gunman", "none"]])
  assert {kind: values[0] for kind, values in found.items()} == pytest.approx(
    {"rouge1": 75.0, "rouge2": 100 / 3, "rougeL": 75.0}
  )
  with pytest.raises(UserError, match="the held-out summaries have none"):
    rouge.compare(["a"], [["要約"]])


def test_summaries_are_scored_beside_the_first_sentence(tmp_path, monkeypatch):
  heldout = [{"source": "A cat sat. It slept.", "target": ["it slept", "the cat sat"]}]
  dataset = summaries(
    table(tmp_path / "a.jsonl"), heldout=table(tmp_path / "b.jsonl", heldout * 2 + ROWS[1:2])
  )

  def translations(model, params, sources, **settings):
    for i in reversed(range(len(sources))):
      yield i, Target(np.array([*b"it slept", 256]), -1.0)

  monkeypatch.setattr(texts, "translations", translations)
  model = models.Transformer(vocab_size=257, max_length=24, width=8, depth=1, heads=1)
  found = rouge.Summarized(records=3).total(model, None, dataset)
  assert found["rouge1"].mean() == pytest.approx(200 / 3)
  assert found["lead_rouge1"].mean() == pytest.approx(100 * 2 * (2 / 3) / 3)
  assert found["cut"].mean() == pytest.approx(1 / 3) and found["length"].mean() == 8
  assert rouge.Summarized().total(model, None, dataset, lambda: True) is None
  with pytest.raises(UserError, match="tokens=0 summarizes nothing"):
    rouge.Summarized(tokens=0)
