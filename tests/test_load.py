"""From words on a command line to experiments, and to one clear line for every mistake."""

import json
import sys

import pytest

from research import load
from research.cli import main
from research.errors import UserError
from research.record import open_run, remember

FILE = '''"""A file under test."""

from research import Experiment, data, models, objectives, optim


def experiment(width=32, peak=1e-3, corpus="a.txt", big=False):
  return Experiment(
    name="tested",
    data=data.Text(data.Files(corpus), data.Bytes(), 16),
    model=models.GPT(vocab_size=257, max_length=16, width=64 if big else width, depth=1, heads=2),
    objective=objectives.NextToken(),
    optimizer=optim.AdamW(optim.Constant(peak)),
    steps=3,
    batch_size=2,
  )


def sweep():
  for seed in (1, 2):
    yield experiment().vary(f"seed_{seed}", {"seed": seed})


def needy(file: str):
  return experiment(corpus=file)
'''


@pytest.fixture
def file(tmp_path):
  path = tmp_path / "tested.py"
  path.write_text(FILE)
  return path


def test_knobs_and_overrides_reach_the_experiment(file):
  made = load.recipe(str(file), ["width=16", "optimizer.b2=0.95", "steps=7", "big"]).experiment()
  assert (made.model.width, made.optimizer.b2, made.steps) == (64, 0.95, 7)


def test_a_generator_yields_its_experiments(file):
  made = load.recipe(f"{file}:sweep").experiments()
  assert [e.name for e in made] == ["tested/seed_1", "tested/seed_2"]
  with pytest.raises(UserError, match="yields 2 experiments"):
    load.recipe(f"{file}:sweep").experiment()


def test_an_ablation_imports_its_base_from_the_folder_above(file, tmp_path):
  folder = tmp_path / "ablations"
  folder.mkdir()
  (folder / "ablated.py").write_text(
    "import tested\n\ndef experiment():\n  return tested.experiment(width=8)\n"
  )
  before = list(sys.path)
  made = load.recipe(str(folder / "ablated.py")).experiment()
  assert made.model.width == 8 and sys.path == before
  sys.modules.pop("tested")


@pytest.mark.parametrize(
  ("words", "told"),
  [
    (["widht=64"], "Did you mean 'width'?"),
    (["width=wide"], "width is an int"),
    (["width=32"], "changes nothing"),
    (["peak=fast"], "peak is a float"),
    (["model.depht=2"], "Did you mean 'depth'?"),
    (["model.depth=1"], "changes nothing"),
    (["wide"], "is not name=value"),
    (["=3"], "is not name=value"),
    (["width=16", "width=8"], "given twice"),
    (["big=perhaps"], "big is a bool"),
  ],
)
def test_a_mistake_exits_with_2_and_one_line(file, words, told, capsys):
  assert main(["describe", str(file), *words]) == 2
  captured = capsys.readouterr()
  assert told in captured.err
  assert captured.err.count("\n") == 1 and captured.err.startswith("error: ")


@pytest.mark.parametrize(
  ("content", "told"),
  [
    ("def experiment(:\n", ":1: not valid Python"),
    ("import nothing_of_this_name\n", ":1: ModuleNotFoundError"),
    ("x = 1\n\nraise ValueError('no')\n", "no"),
    ("def other():\n  return 1\n", "It has other"),
    ("def experiment():\n  return 3\n", "must return an Experiment"),
    ("def experiment():\n  return None\n", "must return an Experiment"),
  ],
)
def test_a_broken_file_is_told_with_its_line(tmp_path, content, told, capsys):
  path = tmp_path / "broken.py"
  path.write_text(content)
  assert main(["describe", str(path)]) == 2
  assert told in capsys.readouterr().err


def test_a_missing_file_names_its_neighbours(file, capsys):
  assert main(["run", str(file).replace("tested", "testde")]) == 2
  assert "Did you mean" in capsys.readouterr().err


def test_a_needed_knob_is_asked_for(file, capsys):
  assert main(["describe", f"{file}:needy"]) == 2
  assert "needs file=..." in capsys.readouterr().err


def test_help_of_a_file_shows_knobs_and_fields(file, capsys):
  assert main(["run", str(file), "--help"]) == 0
  out = capsys.readouterr().out
  assert "A file under test." in out and "width" in out and "optimizer.learning_rate" in out


def test_help_of_a_file_that_needs_a_file_shows_fields_all_the_same(file, capsys):
  assert main(["run", f"{file}:needy", "--help"]) == 0
  out = capsys.readouterr().out
  assert "needed" in out and "data.documents.pattern" in out and "'FILE'" in out


def test_an_override_may_be_what_some_experiments_have_already_but_not_all(file):
  some = load.recipe(f"{file}:sweep", ["seed=1"]).experiments()
  assert [item.seed for item in some] == [1, 1]
  with pytest.raises(UserError, match="steps=3 changes nothing"):
    load.recipe(f"{file}:sweep", ["steps=3"]).experiments()


def test_a_run_folder_remembers_its_experiment(file, tmp_path):
  recipe = load.recipe(str(file), ["width=16", "optimizer.b2=0.95"])
  remember(tmp_path / "run", recipe, recipe.experiment())
  again, record = open_run(tmp_path / "run")
  assert again.describe() == recipe.experiment().describe()
  assert "width=16" in record["command"]


def test_a_run_opens_where_what_it_was_given_is_the_default_by_now(file, tmp_path):
  recipe = load.recipe(str(file), ["width=16", "optimizer.b2=0.95"])
  remember(tmp_path / "run", recipe, recipe.experiment())
  file.write_text(FILE.replace("width=32", "width=16").replace("peak)", "peak), b2=0.95"))
  again, _ = open_run(tmp_path / "run")
  assert (again.model.width, again.optimizer.b2) == (16, 0.95)


def test_a_run_folder_refuses_another_experiment(file, tmp_path):
  recipe = load.recipe(str(file))
  other = load.recipe(str(file), ["width=16"])
  remember(tmp_path / "run", other, other.experiment())
  remember(tmp_path / "run", recipe, recipe.experiment())  # nothing was run yet
  (tmp_path / "run" / "metrics.jsonl").touch()
  with pytest.raises(UserError, match=r"another experiment \(model.width: 32 -> 16\)"):
    remember(tmp_path / "run", other, other.experiment())
  more = load.recipe(str(file), ["log_every=1"])
  remember(tmp_path / "run", more, more.experiment())  # bookkeeping may change


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"file": 3})])
def test_a_damaged_run_folder_is_told(tmp_path, content, capsys):
  (tmp_path / "experiment.json").write_text(content)
  with pytest.raises(UserError):
    open_run(tmp_path)
