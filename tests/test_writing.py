"""`research predict` and `research sample` of encoder-decoders: texts out of texts."""

import io
import itertools
import json
import pathlib
import sys

import numpy as np
import pytest
import untrained

from research import data, sample
from research.cli import main
from research.errors import UserError
from research.generate import gaps
from research.predict import command

FILE = pathlib.Path(__file__).parent / "tiny_tasks.py"
SOURCES = ["latin small letter a", "greek letter", "x y" * 60, "a", "", "hangul syllable", "b"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs")
  for kind in ("translation", "summaries", "gaps"):
    untrained.made(f"{FILE}:{kind}", folder / kind)
  return folder


def predict(run, given, output, *more):
  return main(["predict", str(run), "--input", str(given), "--output", str(output), *more])


def read(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_line_has_its_translation_in_order_and_long_ones_are_counted(runs, tmp_path, capsys):
  given, out = tmp_path / "in.en", tmp_path / "out.jsonl"
  given.write_text("\n".join(SOURCES) + "\n")
  assert predict(runs / "translation", given, out) == 0
  found, said = read(out), capsys.readouterr()
  assert len(found) == len(SOURCES)
  assert "in.en, line 5: there is no text" in found[4]["error"] and "line 5" in said.err
  assert "1 of the texts have more than 23 tokens, and their ends were left out" in said.err
  assert "7 results" in said.out and "1 of them could not be read" in said.out
  assert main(["predict", str(runs / "translation"), SOURCES[1]]) == 0
  alone = json.loads(capsys.readouterr().out)
  assert alone["text"] == found[1]["text"] and alone["score"] < 0
  assert alone["score"] == pytest.approx(found[1]["score"], rel=1e-4)


def test_a_broken_off_prediction_goes_on_where_it_was(runs, tmp_path, monkeypatch, capsys):
  given, whole, cut = tmp_path / "in.jsonl", tmp_path / "whole.txt", tmp_path / "cut.txt"
  given.write_text("\n".join(json.dumps({"source": text}) for text in SOURCES))
  monkeypatch.setattr(command, "PART", 3)

  def cut_short(self, records):
    results = [{"text": record["source"][:9], "score": -1.0} for record in records]
    return results, sum(len(record["source"]) > 23 for record in records)

  monkeypatch.setattr(command.TargetsOf, "__call__", cut_short)
  assert predict(runs / "summaries", given, whole) == 0
  told = capsys.readouterr()
  assert len(whole.read_text().splitlines()) == len(SOURCES), "a line for a line"
  turns = itertools.count()

  def twice(self, records):
    if next(turns) == 2:
      raise KeyboardInterrupt
    return cut_short(self, records)

  monkeypatch.setattr(command.TargetsOf, "__call__", twice)
  assert predict(runs / "summaries", given, cut) == 130
  monkeypatch.setattr(command.TargetsOf, "__call__", cut_short)
  capsys.readouterr()
  assert predict(runs / "summaries", given, cut) == 0
  assert cut.read_text() == whole.read_text()
  again = capsys.readouterr()
  assert again.out == told.out.replace("whole.txt", "cut.txt")
  assert "1 of the texts have more" in again.err, "what was counted before counts"


def test_summaries_are_of_sentences_or_texts_and_go_into_tables(runs, tmp_path, capsys):
  given, out = tmp_path / "in.jsonl", tmp_path / "out.csv"
  rows = [{"source": ["One. ", "Two."]}, {"source": "One. Two."}, {"text": "One."}, {"source": 3}]
  given.write_text("\n".join(map(json.dumps, rows)))
  assert predict(runs / "summaries", given, out) == 0
  names, *found = out.read_text().splitlines()
  assert names == "text,score,error" and found[0] == found[1]
  assert "line 3: no field 'source'; there are: text" in found[2]
  assert "line 4: field 'source' is a int" in found[3]
  capsys.readouterr()
  assert predict(runs / "summaries", tmp_path / "none.jsonl", tmp_path / "x.csv") == 2
  assert predict(runs / "summaries", given, tmp_path / "x.xml") == 2
  assert "results are written to .jsonl or .csv or .txt" in capsys.readouterr().err


def test_an_encoder_decoder_is_sampled_from(runs, capsys):
  run = ["sample", str(runs / "translation"), "--tokens", "5"]
  assert main([*run, "--prompt", "greek", "--beam", "2"]) == 0
  text = capsys.readouterr().out
  assert main(["predict", str(runs / "translation"), "greek"]) == 0
  assert json.loads(capsys.readouterr().out)["text"] == text.strip()


def test_an_imported_model_begins_as_its_config_says(tmp_path):
  words = data.Bytes().fit()
  assert sample.beginning(tmp_path, words) == words.end
  (tmp_path / "hugging_face").mkdir()
  for config, token in (({"decoder_start_token_id": 7}, 7), ({}, words.end)):
    (tmp_path / "hugging_face" / "config.json").write_text(json.dumps(config))
    assert sample.beginning(tmp_path, words) == token


def test_a_text_is_read_as_the_same_line_of_a_file(runs):
  translation, summaries = (command.Opened(runs / kind) for kind in ("translation", "summaries"))
  given = ["\ufeffa\x00 e\u0301\r\nb "]
  assert command.TargetsOf(translation).one(given) == {"source": "a \u00e9 b"}
  assert command.TargetsOf(summaries).one(given) == {"source": "a \u00e9\nb"}
  for text in (" ", "\x00\n"):
    with pytest.raises(UserError, match="is empty; give one"):
      command.TargetsOf(translation).one([text])


def test_what_comes_in_is_utf_8_or_told(runs, monkeypatch, capsys):
  monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9"), "utf-8"))
  assert main(["sample", str(runs / "translation"), "--prompt", "-"]) == 2
  assert "standard input is not UTF-8 text" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("kind", "words", "said"),
  [
    ("translation", [], "give one with --prompt"),
    ("translation", ["--prompt", "x y" * 24], "tokens, and the model reads 24"),
    ("translation", ["--prompt", "x", "--beam", "2", "--greedy"], "--beam takes the likeliest"),
    ("gaps", ["--prompt", "nothing is missing"], "write <extra_id_0> in its place"),
  ],
)
def test_what_cannot_be_sampled_is_told(runs, kind, words, said, capsys):
  assert main(["sample", str(runs / kind), *words]) == 2
  error = capsys.readouterr().err
  assert said in error and "Traceback" not in error


def test_gaps_are_filled_on_the_screen(runs, capsys):
  prompt = "the <extra_id_0> of a <extra_id_1>"
  run = ["sample", str(runs / "gaps"), "--prompt", prompt, "--tokens", "3", "--samples", "2"]
  assert main(run) == 0
  heading, first, between, second = capsys.readouterr().out.splitlines()[:4]
  assert (heading, between) == ("--- sample 1", "--- sample 2")
  assert all(text.startswith("the ") and " of a " in text for text in (first, second))


def test_a_gap_holds_what_the_target_says_and_stays_where_it_says_nothing(runs):
  words = data.load_vocabulary(runs / "gaps" / "vocabulary")
  number = words.special.get
  source, found = gaps.encode(words, "the<extra_id_0> sat<extra_id_1><extra_id_2>")
  assert found == 3 and source[-1] == words.end
  target = [number("<extra_id_0>"), *words.encode(" cat"), number("<extra_id_1>")]
  target += [*words.encode(" on"), words.end]
  assert gaps.filled(words, source, np.array(target)) == "the cat sat on<extra_id_2>"
  plain, none = gaps.encode(data.Bytes().fit(), "<extra_id_0>")
  assert none == 0 and len(plain) == 13, "a vocabulary without sentinels reads letters"
