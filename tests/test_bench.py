"""The benchmark runs the program that training and sampling run, beside whoever is there."""

import re
import sys

import pytest

from research import memory
from research.bench import rounds
from research.cli import main


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  monkeypatch.delenv("XLA_FLAGS")  # the workers are processes of their own


@pytest.mark.parametrize("kind", ["train", pytest.param("decode", marks=pytest.mark.slow)])
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


def test_a_worker_that_ends_says_why(capsys):
  entry = rounds.Entry("broken", (sys.executable, "-c", "raise SystemExit('no such thing')"))
  with pytest.raises(rounds.UserError, match="'broken' ended: no such thing"):
    rounds._measure("nothing", [entry], "float32", 1)


def test_one_peer_has_the_memory_settings_of_our_own_commands():
  entries = rounds.training("mini", "float32", sys.executable)
  assert [e.environment for e in entries].count({memory.ENVIRONMENT: memory.tunables()}) == 2
  assert entries[0].environment == entries[-1].environment
