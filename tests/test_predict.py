"""`research predict`: labels, entities and answers for new files, in order, and resumed."""

import errno
import itertools
import json
import os
import pathlib

import pytest

from research.cli import main
from research.errors import RunError
from research.predict import command, written

FILE = pathlib.Path(__file__).parent / "tiny_tasks.py"
TEXTS = [f"text number {i}" for i in range(11)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """A run of each kind, of very few steps."""
  folder = tmp_path_factory.mktemp("runs")
  for kind in ("labels", "entities", "answers"):
    assert main(["run", f"{FILE}:{kind}", "--workdir", str(folder / kind)]) == 0
  return folder


def lines(path):
  return [json.loads(line) for line in path.read_text().split("\n") if line]


def predict(run, given, output, *more):
  return main(["predict", str(run), "--input", str(given), "--output", str(output), *more])


def test_every_line_has_its_label_in_order_and_a_bad_one_is_told(runs, tmp_path, capsys):
  given = tmp_path / "in.jsonl"
  rows = [json.dumps({"text": text}) for text in TEXTS]
  given.write_text("\n".join([*rows[:4], "{broken", *rows[4:]]) + "\n")
  assert predict(runs / "labels", given, tmp_path / "out.jsonl") == 0
  found = lines(tmp_path / "out.jsonl")
  assert len(found) == 12 and "in.jsonl, line 5: this is not JSON" in found[4]["error"]
  assert "line 5" in capsys.readouterr().err
  for text, row in zip(TEXTS, [*found[:4], *found[5:]]):
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert row["probability"] == max(row["probabilities"].values())
    assert main(["predict", str(runs / "labels"), text]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["probabilities"] == pytest.approx(row["probabilities"], abs=1e-5)
    assert alone["label"] == row["label"]


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_an_output_that_is_partly_there_is_continued(runs, tmp_path, ending, monkeypatch, capsys):
  given = tmp_path / "in.csv"
  given.write_text("\n".join(["text", *TEXTS]) + "\n")
  whole, cut = tmp_path / f"whole.{ending}", tmp_path / f"cut.{ending}"
  monkeypatch.setattr(command, "PART", 3)
  assert predict(runs / "labels", given, whole) == 0
  turns = itertools.count()
  computed = command.LabelsOf.__call__

  def twice(self, records):
    if next(turns) == 2:
      raise KeyboardInterrupt
    return computed(self, records)

  monkeypatch.setattr(command.LabelsOf, "__call__", twice)
  assert predict(runs / "labels", given, cut) == 130
  with open(cut, "a") as file:
    file.write("half a li")  # what a crash leaves
  monkeypatch.setattr(command.LabelsOf, "__call__", computed)
  other = tmp_path / "other.csv"
  other.write_text("text\nsomething else\n")
  assert predict(runs / "labels", other, cut) == 2
  assert predict(runs / "labels", given, cut) == 0
  assert cut.read_text() == whole.read_text()
  assert "behind the first 6 results" in capsys.readouterr().err
  assert predict(runs / "labels", given, cut) == 2
  assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("refused", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_takes_no_more_is_told_and_the_output_gone_on_with(refused, tmp_path):
  def fsync(descriptor):
    raise OSError(refused, os.strerror(refused))

  output = written.Output(tmp_path / "out.jsonl", {}, None)
  output.add([{"label": "a"}])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(os, "fsync", fsync)
    with pytest.raises(RunError, match=f"--output .*{os.strerror(refused)}.* the same command"):
      output.add([{"label": "lost"}])
  output = written.Output(tmp_path / "out.jsonl", {}, None)
  output.add([{"label": "b"}])
  output.finish()
  assert [line["label"] for line in lines(tmp_path / "out.jsonl")] == ["a", "b"]


def test_entities_keep_all_words_of_long_sentences(runs, tmp_path):
  given = tmp_path / "in.conll"
  sentences = [[f"w{i}" for i in range(n)] for n in (3, 40, 1)]
  given.write_text("\n\n".join("\n".join(words) for words in sentences) + "\n")
  assert predict(runs / "entities", given, tmp_path / "out.jsonl") == 0
  found = lines(tmp_path / "out.jsonl")
  assert [row["words"] for row in found] == sentences
  for row in found:
    assert len(row["tags"]) == len(row["words"])
    for entity in row["entities"]:
      assert row["tags"][entity["begin"]] == f"B-{entity['type']}"
      assert entity["text"] == " ".join(row["words"][entity["begin"] : entity["end"]])


def test_answers_are_spans_of_their_texts(runs, tmp_path, capsys):
  given = tmp_path / "in.jsonl"
  asked = [{"id": f"q{i}", "question": "Who?", "context": "Ada wrote it. " * i} for i in (1, 9)]
  given.write_text("\n".join(map(json.dumps, [*asked, {"question": "Who?"}])))
  assert predict(runs / "answers", given, tmp_path / "out.jsonl") == 0
  found = lines(tmp_path / "out.jsonl")
  assert [row.get("id") for row in found] == ["q1", "q9", None] and "context=None" in str(found[2])
  for row, record in zip(found, asked):
    text = record["context"][row["begin"] : row["end"]].strip()
    assert text and row["answer"] in (None, text)
  assert main(["predict", str(runs / "answers"), "Who?", "Ada wrote it."]) == 0
  assert main(["predict", str(runs / "answers"), "Who?"]) == 2
  assert "give a question and a text" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("words", "said"),
  [
    ([], "give a text, or --input FILE with --output FILE"),
    (["a", "--input", "x.csv", "--output", "y.jsonl"], "give a text, or --input"),
    (["--input", "x.csv"], "--input and --output go together"),
    (["--input", "x.csv", "--output", "y.jsonl"], "cannot read x.csv"),
    (["--input", str(FILE), "--output", "y.jsonl"], "is of an unknown kind"),
    (["a", "--step", "7"], "7"),
    (["--input", "~nosuchuser/x.csv", "--output", "y.jsonl"], "cannot be a path"),
    (["--input", "x" * 300 + ".csv", "--output", "y.jsonl"], "cannot be a path"),
    ([" \n"], "is empty"),
  ],
)
def test_mistakes_are_one_line(runs, words, said, capsys):
  assert main(["predict", str(runs / "labels"), *words]) == 2
  error = capsys.readouterr().err
  assert said in error and "Traceback" not in error


def test_bytes_that_are_no_text_are_written_as_escapes(runs, capsys):
  assert main(["predict", str(runs / "entities"), "caf\u00e9 \udcff"]) == 0
  assert json.loads(capsys.readouterr().out)["words"] == ["caf\u00e9", "\udcff"]


def test_a_text_is_read_as_the_same_text_in_a_file(runs):
  assert predictor(runs / "labels").one(["\ufeffe\u0301\x00\r\n"]) == {"texts": ["\u00e9\n"]}


def predictor(run):
  return command.LabelsOf(command.Opened(run))


@pytest.mark.slow
def test_a_run_of_another_kind_is_told(tmp_path, capsys):
  (tmp_path / "a.txt").write_text("".join(f"words {i}\n" for i in range(99)))
  run = tmp_path / "run"
  file = FILE.parent / "tiny_experiment.py"
  assert main(["run", str(file), f"text={tmp_path}/a.txt", "steps=3", "--workdir", str(run)]) == 0
  assert main(["predict", str(run), "text"]) == 2
  assert "was trained on data.Text" in capsys.readouterr().err
