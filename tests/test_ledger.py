"""The ledger says what the folders of runs say, whoever writes it, and whatever becomes of it."""

import csv
import dataclasses
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from research import Experiment, entry, lock
from research.errors import NumericsError, UserError
from research.ledger import Ledger, conditions, listing
from research.log import lines

WRITER = """
import pathlib, sys
from research.ledger import Ledger
root = pathlib.Path(sys.argv[1])
runs = sorted(root.glob("*/*"))
with Ledger(root) as ledger:
  print("writing", flush=True)
  for i in range(int(sys.argv[2])):
    ledger.take(runs[i % len(runs)])
"""


def experiment(**named):
  named = {"name": "toy", "data": None, "model": None, "steps": 20, "seed": 3, **named}
  return Experiment(**named)


def run(root, name, state=entry.DONE, error="", loss=1.5, **named):
  """A folder as a run leaves it."""
  folder = root / name
  folder.mkdir(parents=True)
  made = experiment(name=name, **named)
  record = {"name": name, "description": made.describe(), "versions": {"jax": "1"}}
  (folder / "experiment.json").write_text(json.dumps(record))
  written = [
    {"time": 0.1, "split": "model", "parameters": 77, "device": "1 cpu device"},
    {"step": 10, "time": 1.0, "split": "train", "loss": 2.0},
    {"step": 10, "time": 2.0, "split": "heldout", "loss": 9.0},
    {"step": 20, "time": 4.0, "split": "heldout", "loss": loss, "standard_error": {"loss": 0.1}},
    {"step": 20, "time": 4.5, "split": "timing", "train_seconds": 3.0},
  ]
  lines.rewrite(folder / "metrics.jsonl", written)
  first = entry.first(made, root / "file.py") if (root / "file.py").exists() else None
  first = first or entry.Entry(
    name, entry.of(made), "c0de", made.seed, "host", "cpu", {"jax": "1"}, ""
  )
  entry.write(folder, dataclasses.replace(first, state=state, error=error, starts=1))
  return folder


@pytest.fixture
def root(tmp_path):
  run(tmp_path, "a/pre", loss=1.5)
  run(tmp_path, "a/post", loss=2.5, average=0.9)
  run(tmp_path, "a/deep", state=entry.FAILED, error="the disk is full", loss=float("nan"))
  return tmp_path


def found(root, *where):
  with Ledger(root) as ledger:
    ledger.refresh()
    return [run.folder for run in ledger.find([conditions.parse(text) for text in where])]


def test_a_run_is_told_with_all_that_its_folder_says(root):
  with Ledger(root) as ledger:
    ledger.refresh()
    (told,) = ledger.find([conditions.parse("name=a/post")])
  assert told.figures == {
    "heldout.loss": 2.5,
    "heldout.standard_error.loss": 0.1,
    "train.loss": 2,
  }
  assert told.fields["average"] == 0.9 and told.fields["seed"] == 3
  assert told.run["state"] == "done" and told.run["step"] == 20 and told.run["seconds"] == 4.5
  assert told.run["code"] == "c0de" and told.run["parameters"] == 77
  assert told.versions == {"versions.jax": "1"}
  assert set(told.files) == {"entry.json", "experiment.json", "metrics.jsonl"}


@pytest.mark.parametrize(
  ("where", "names"),
  [
    (["heldout.loss<2"], ["pre"]),
    (["heldout.loss >= 1.5"], ["post", "pre"]),
    (["state=done", "average=0.9"], ["post"]),
    (["average=None"], ["deep", "pre"]),
    (["average!=0.9"], ["deep", "pre"]),
    (["error~DISK"], ["deep"]),
    (["steps=20", "seed=3.0", "heldout.loss<=2.5"], ["post", "pre"]),
    (["steps>20"], []),
  ],
)
def test_conditions_choose(root, where, names):
  assert found(root, *where) == [f"a/{name}" for name in names]


@pytest.mark.parametrize(
  ("where", "told"),
  [
    ("heldout.los<2", "Did you mean 'heldout.loss'?"),
    ("heldout.loss", "is not NAME, comparison, VALUE"),
    ("heldout.loss<", "is not NAME, comparison, VALUE"),
    ("state<done", "compares numbers, 'done' is none"),
    ("heldout.loss<nan", "compares numbers"),
  ],
)
def test_a_condition_that_is_none_is_told(root, where, told):
  with pytest.raises(UserError, match=told.replace("?", r"\?")):
    found(root, where)


def test_names_that_are_not_utf8_are_kept(tmp_path):
  folder = run(tmp_path, "a/caf\udce9", entry.FAILED, "no caf\udce9.txt", model="caf\udce9.txt")
  (folder / "caf\udce9.txt").touch()
  assert found(tmp_path, "error~caf\udce9", "model=caf\udce9.txt") == ["a/caf\\udce9"]
  with Ledger(tmp_path) as ledger:
    ledger.take(folder)
    (told,) = ledger.find()
  assert told.run["error"] == "no caf\\udce9.txt" and "caf\\udce9.txt" in told.files


def test_a_large_integer_is_told_to_the_last_digit(tmp_path):
  run(tmp_path, "a", seed=2**53 + 1)
  with Ledger(tmp_path) as ledger:
    ledger.refresh()
    (told,) = ledger.find()
  assert told.fields["seed"] == 2**53 + 1


def test_nothing_that_is_typed_is_sql(root):
  for value in ("done' OR '1'='1", "x'; DROP TABLE runs; --", '"', "%", "?"):
    assert found(root, f"state={value}") == []
    assert found(root, f"state~{value}") == []
    with pytest.raises(UserError, match="no run in"):
      found(root, f"{value.replace('=', '').replace(' ', '')}=1")
  assert len(found(root)) == 3


def test_what_has_changed_is_read_again_and_what_is_gone_is_forgotten(root):
  with Ledger(root) as ledger:
    ledger.refresh()
    lines.rewrite(root / "a/pre/metrics.jsonl", [{"step": 20, "split": "heldout", "loss": 0.25}])
    for path in (root / "a/post").iterdir():
      path.unlink()
    run(root, "b/new")
    ledger.refresh()
    told = {run.folder: run.figures["heldout.loss"] for run in ledger.find()}
  assert told["a/pre"] == 0.25 and set(told) == {"a/pre", "a/deep", "b/new"}


@pytest.mark.parametrize("harm", ["deleted", "overwritten", "torn", "emptied"])
def test_a_lost_or_damaged_ledger_is_made_anew_from_the_folders(root, harm):
  with Ledger(root) as ledger:
    ledger.refresh()
    before = ledger.find()
  file = root / "ledger.sqlite"
  if harm == "deleted":
    file.unlink()
  elif harm == "torn":
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\0" * (len(whole) - 8192))
  else:
    file.write_bytes(b"no database " * 500 if harm == "overwritten" else b"")
  with Ledger(root) as ledger:
    ledger.refresh()
    assert ledger.find() == before


def test_where_no_file_can_be_written_the_runs_are_told_all_the_same(root):
  (root / "ledger.sqlite").mkdir()
  assert found(root, "heldout.loss<2") == ["a/pre"]


@pytest.mark.slow
def test_writers_take_turns_and_one_that_is_killed_does_no_harm(root):
  for i in range(5):
    run(root, f"more/{i}")
  start = [sys.executable, "-c", WRITER, str(root)]
  quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
  with (
    subprocess.Popen([*start, "100000"], **quiet) as killed,
    subprocess.Popen([*start, "40"], **quiet) as other,
  ):
    assert killed.stdout.readline() == "writing\n"
    assert other.stdout.readline() == "writing\n"
    os.kill(killed.pid, signal.SIGKILL)
    assert other.communicate(timeout=120) == ("", "") and other.returncode == 0
  file = sqlite3.connect(root / "ledger.sqlite")
  assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
  assert file.execute("SELECT count(*) FROM runs").fetchall() == [(8,)]
  file.close()


def test_csv_has_everything_and_the_table_what_differs(root, capsys):
  assert listing.show(root, [], None, as_csv=True) == 0
  rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
  assert [row["name"] for row in rows] == ["a/deep", "a/post", "a/pre"]
  assert rows[1]["average"] == "0.9" and rows[0]["heldout.loss"] == "nan"
  assert listing.show(root, [], "heldout.loss", as_csv=False) == 0
  told = capsys.readouterr().out.splitlines()
  assert told[0].split() == ["run", "state", "step", "heldout.loss", "average", "time"]
  assert [line.split()[0] for line in told[1:4]] == ["a/pre", "a/post", "a/deep"]
  assert told[4:] == [f"3 of 3 runs in {root}", "a/deep: the disk is full"]


def test_a_folder_without_runs_is_told(tmp_path):
  with pytest.raises(UserError, match="holds no run"):
    listing.show(tmp_path, [], None, as_csv=False)
  with pytest.raises(UserError, match="is no folder"):
    listing.show(tmp_path / "nowhere", [], None, as_csv=False)


def test_the_identity_is_of_what_determines_the_result():
  same = [{"name": "other"}, {"log_every": 3}, {"save_every": 7}, {"patience": 9.0}]
  others = [{"seed": 4}, {"steps": 21}, {"average": 0.5}]
  assert {entry.of(experiment(**named)) for named in same} == {entry.of(experiment())}
  assert len({entry.of(experiment(**named)) for named in [*others, {}]}) == 4


def test_the_code_is_that_of_the_file_and_of_what_it_imports_from_its_side(tmp_path):
  (tmp_path / "sub").mkdir()
  file, side, above, apart = (tmp_path / name for name in ("sub/a.py", "sub/b.py", "c.py", "d.py"))
  file.write_text("import b\n")
  side.write_text("from c import x\n")
  above.write_text("x = 1\n")
  apart.write_text("")
  before = entry.code(file)
  apart.write_text("x = 2\n")
  assert entry.code(file) == before
  above.write_text("x = 2\n")
  assert entry.code(file) != before


def test_a_run_whose_process_was_killed_counts_as_stopped(tmp_path):
  folder = run(tmp_path, "a", state=entry.RUNNING)
  with lock.alone_in(folder):
    assert entry.read(folder).state == entry.RUNNING
  assert entry.read(folder).state == entry.STOPPED


def test_how_a_run_ended_stands_in_its_folder(tmp_path):
  file = tmp_path / "file.py"
  file.write_text("")
  folder = tmp_path / "a"

  def end(complete=None, error=None):
    with entry.entered(folder, experiment(), file) as ended:
      with lock.alone_in(folder):
        assert entry.read(folder).state == entry.RUNNING
      if error is not None:
        raise error
      if complete is not None:
        ended(complete)

  end(complete=False)
  assert entry.read(folder).state == entry.STOPPED
  with pytest.raises(NumericsError):
    end(error=NumericsError("not finite:\n password=hunter2"))
  failed = entry.read(folder)
  assert (failed.state, failed.error) == (entry.FAILED, "not finite: password=<redacted>")
  with pytest.raises(KeyboardInterrupt):
    end(error=KeyboardInterrupt())
  assert entry.read(folder).state == entry.STOPPED
  end(complete=True)
  done = entry.read(folder)
  assert (done.state, done.error, done.starts) == (entry.DONE, "", 4)
  assert done.began == failed.began and done.identity == entry.of(experiment())
