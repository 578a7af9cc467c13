"""The benchmark runs the program that training and sampling run, beside whoever is there."""

import re
import subprocess
import sys
import types

import numpy as np
import pytest

from research import hf, memory
from research.bench import comparisons, rounds, sizes, weights
from research.bench.comparisons import Comparison, Entry
from research.cli import main
from research.errors import UserError

FAILED = types.SimpleNamespace(returncode=1)


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  monkeypatch.delenv("XLA_FLAGS")  # the workers are processes of their own


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["train", "decode"])
def test_each_worker_runs_once_a_round(kind, capsys):
  assert main(["bench", kind, "--size", "tiny", "--rounds", "2"]) == 0
  out = capsys.readouterr().out
  titles = re.findall(rf"{kind[:5]}ing GPT-2 tiny, (\w+)", out)
  assert titles == (
    ["float32", "bfloat16"] if kind == "train" else 2 * ["float32"] + 2 * ["bfloat16"]
  )
  rows = re.findall(r"research(?: \(native\))? +│ +([\d,]+) +│ +([\d,]+) to ([\d,]+)", out)
  assert len(rows) == len(titles)
  for middle, low, high in rows:
    assert 0 < float(low.replace(",", "")) <= float(middle.replace(",", ""))
    assert float(middle.replace(",", "")) <= float(high.replace(",", ""))


def test_peers_that_are_not_there_are_told(capsys):
  assert main(["bench", "--peer-python", "/no/such/python"]) == 2
  assert "--peer-python PATH" in capsys.readouterr().err


@pytest.mark.parametrize("first", ["", "print('{}', flush=True); "], ids=["at once", "when idle"])
def test_a_worker_that_ends_says_why(first):
  code = f"{first}raise SystemExit('no such thing')"
  entry = Entry("broken", (sys.executable, "-c", code))
  with pytest.raises(UserError, match="'broken' ended: no such thing"):
    rounds._measure(Comparison("nothing", "float32", [entry]), 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", comparisons.READ)
def test_workers_that_read_weights_run_once_a_round(kind, capsys):
  assert main(["bench", kind, "--size", "tiny", "--rounds", "1"]) == 0
  assert "research" in capsys.readouterr().out


@pytest.mark.slow
def test_the_watch_is_timed_beside_steps_without_it():
  words = ["bench", "watch", "--size", "tiny", "--rounds", "1"]  # on one device, by itself
  done = subprocess.run(
    [sys.executable, "-m", "research.cli", *words], capture_output=True, text=True, check=True
  )
  out = done.stdout
  alone, watched = (float(x) for x in re.findall(r"│ +([\d.]+) ms", out))
  more = float(re.search(r"rounds +│ +([+-][\d.]+) %", out)[1])
  assert more == pytest.approx(100 * (watched / alone - 1), abs=1.0)


def test_both_sides_read_the_same_folder(tmp_path):
  weights.write("bert", sizes.TINY, tmp_path / "weights")
  imported = hf.read(tmp_path / "weights")
  assert (imported.model.width, imported.model.vocab_size) == (64, 512)
  with np.load(tmp_path / "weights" / weights.INPUTS) as inputs:
    # What transformers leaves out are the places that we do not predict.
    predicted = [np.sort(row[row >= 0]) for row in inputs["labels"]]
    wanted = [np.sort(row[at > 0]) for row, at in zip(inputs["targets"], inputs["places"])]
  np.testing.assert_equal(predicted, wanted)
  assert sum(map(len, wanted)) == 4 * round(0.15 * 64)


def test_captions_end_where_every_peer_looks_for_the_end():
  _, _, inputs = weights.clip(sizes.TOWERS["tiny"])
  np.testing.assert_array_equal(inputs["caption"].argmax(1), inputs["caption_end"])
  assert len(set(inputs["caption_end"])) > 1 and (inputs["caption"] == 511).sum() == 8


def test_what_the_peers_of_a_kind_need_is_told(monkeypatch):
  asked = []
  run = types.SimpleNamespace(run=lambda command, **_: asked.append(command[-1]) or FAILED)
  monkeypatch.setattr(rounds, "subprocess", run)
  with pytest.raises(UserError, match="cannot import torch, transformers, open_clip; give"):
    rounds._peers(types.SimpleNamespace(kind="clip", peers=True, peer_python=sys.executable))
  assert asked == ["import torch, transformers, open_clip"]


@pytest.mark.parametrize(
  ("dtype", "outcome", "refused"),
  [
    ("float32", {"close": [1.0, 2.00001], "same": [1, 2]}, None),
    ("float32", {"close": [1.0, 2.1], "same": [1, 2]}, "other results"),
    ("float32", {"close": [1.0, float("nan")], "same": [1, 2]}, "other results"),
    ("float32", {"close": [1.0, 2.0], "same": [1, 3]}, "other words"),
    ("bfloat16", {"close": [1.0, 2.01], "same": [1, 3]}, None),
  ],
)
def test_a_peer_that_computes_something_else_is_not_timed(dtype, outcome, refused):
  comparison = Comparison("work", dtype, [Entry("ours", ()), Entry("theirs", ())])
  facts = [{"outcome": {"close": [1.0, 2.0], "same": [1, 2]}}, {"outcome": outcome}]
  if refused is None:
    rounds._check_alike(comparison, facts)
  else:
    with pytest.raises(UserError, match=refused):
      rounds._check_alike(comparison, facts)


@pytest.mark.parametrize("kind", ["save", "sweep"])
def test_a_folder_that_is_not_there_is_told_at_once(kind, tmp_path, capsys):
  assert main(["bench", kind, "--folder", str(tmp_path / "no")]) == 2
  error = capsys.readouterr().err
  assert "no is no folder that can be written" in error and error.count("\n") == 1


def test_the_share_of_an_accelerators_memory_is_left_open():
  bound, needed, speed = rounds._limit({"bytes": 8, "backend": "gpu"}, "float32")
  facts = [{"bytes": 8, "count": 1, "first_seconds": 1.0}]
  comparison = Comparison("decoding", "float32", [Entry("research", ())])
  table = rounds._table(comparison, facts, [[1.0]], [1], (bound, needed, [speed]))
  shown = {column.header: [*column.cells] for column in table.columns}
  assert shown["of memory speed"] == [""] and table.title == "decoding"


def test_a_size_that_is_not_there_says_what_is(capsys):
  assert main(["bench", "translate", "--size", "minilm"]) == 2
  assert "tiny, mini, small" in capsys.readouterr().err


def test_memory_is_that_of_the_worker_alone():
  held = np.ones(2**25)  # 256 MB of ours, which a worker that we start does not have
  code = "import sys; sys.path.insert(0, sys.argv[1]); import serve; print(serve.peak_memory())"
  command = [sys.executable, "-c", code, str(comparisons.HERE)]
  said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
  assert 0 < int(said) < held.nbytes


def test_one_peer_has_the_memory_settings_of_our_own_commands():
  entries = next(comparisons.training("mini", sys.executable)).entries
  assert [e.environment for e in entries].count({memory.ENVIRONMENT: memory.tunables()}) == 2
  assert entries[0].environment == entries[-1].environment
