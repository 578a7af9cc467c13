"""Every experiment file describes itself as committed, and its small twin runs."""

import inspect
import re
import shlex
from pathlib import Path

import pytest

from research import load
from research.cli import main

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "experiments").rglob("*.py"))
GOLDEN = Path(__file__).parent / "golden"


def arguments(function):
  """Knobs without a default are files: any path will do for a description."""
  needed = [
    knob.name
    for knob in inspect.signature(function).parameters.values()
    if knob.default is knob.empty
  ]
  return {name: "FILE" for name in needed}


def described(path):
  """The flattened text of every function of an experiment file, `smoke` aside.

  Of several experiments of a function the first is written out, of the others what differs from it.
  """
  texts = []
  for name, function in load.functions(path).items():
    signature = inspect.signature(function)
    if name == "smoke" or name not in contract(path):
      continue
    del signature
    first = {}
    for made in load.Recipe(path, name, arguments(function), {}).experiments():
      told = made.describe()
      lines = [f"{key}: {text}" for key, text in told.items() if first.get(key) != text]
      lines += [f"{key}: -" for key in first if key not in told]
      texts.append(f"[{name}] {made.name}\n" + "\n".join(lines) + "\n")
      first = first or told
  return "\n".join(texts).replace(str(ROOT), "")


def contract(path):
  """The functions that make experiments: `experiment` and those that the docstring runs."""
  text = path.read_text().split('"""')[1]
  return {"experiment"} | {name for name in load.functions(path) if f"{path.name}:{name}" in text}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_an_experiment_is_described_as_committed(path, request):
  golden = GOLDEN / f"{path.stem}.txt"
  text = described(path)
  if request.config.getoption("--update-golden"):
    golden.write_text(text)
  assert golden.exists(), "run pytest --update-golden tests/test_experiments.py, and read the diff"
  assert text == golden.read_text()


def test_no_golden_text_is_left_over():
  assert {p.stem for p in GOLDEN.glob("*.txt")} == {p.stem for p in FILES}


# One of each kind that no other test runs as a whole; the others take turns with the slow ones.
QUICK = {"clip_temperature", "ngram"}


@pytest.mark.parametrize(
  "path",
  [pytest.param(p, id=p.stem, marks=[pytest.mark.slow] * (p.stem not in QUICK)) for p in FILES],
)
def test_the_small_twin_runs_and_reports(path, tmp_path, capsys):
  words = ["sharding.mesh.data=1", "sharding.mesh.fsdp=-1"]
  smoke = load.recipe(f"{path}:smoke").experiment()
  words = [w for w in words if smoke.describe()[w.split("=")[0]] != w.split("=")[1]]
  if smoke.optimizer is None:
    words = []
  assert main(["run", f"{path}:smoke", *words, "--workdir", str(tmp_path)]) == 0
  assert (tmp_path / "report.html").stat().st_size > 1_000
  assert "report:" in capsys.readouterr().out


def test_the_data_of_a_file_is_previewed(capsys):
  assert main(["data", f"{ROOT}/experiments/ngram.py:smoke", "--rows", "1"]) == 0
  out = capsys.readouterr().out
  assert "who sees whom" in out and "tokens per second" in " ".join(out.split())


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_docstring_is_a_contract(path):
  """Command and expected result stand in every experiment file."""
  text = path.read_text().split('"""')[1]
  assert "research run experiments/" in text and "Expect" in text


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_commands_of_the_docstring_are_taken(path):
  """Their files aside, of which none is read yet: functions, knobs and overrides as they stand."""
  text = path.read_text().split('"""')[1].replace("\\\\\n", " ")
  found = re.findall(r"^  research (?:run|sweep|reproduce|data) (experiments/\S+)(.*)$", text, re.M)
  assert found
  for target, rest in found:
    words = [word for word in shlex.split(rest) if not word.startswith("-") and "=" in word]
    load.recipe(str(ROOT / target), words)
