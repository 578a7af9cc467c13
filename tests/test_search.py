"""A search: each trial an ordinary run, each counted once, whoever is killed on the way."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from research import Search, commands, grammar, load
from research.errors import UserError
from research.search import Chosen, Grid, declared

ROOT = Path(__file__).parent.parent


@pytest.fixture
def file(tmp_path):
  """An experiment file with a search over one rate; words are of its SEARCH and its function."""

  def write(search="sampler='random'", chosen="trial.suggest_float('rate', 1e-4, 1.0, log=True)"):
    path = tmp_path / "rates.py"
    path.write_text(
      "from research import Search\n"
      "from research.overrides import override\n"
      "from tests.tiny_experiment import experiment as tiny\n\n"
      f"SEARCH = Search(metric='heldout.loss', {search})\n\n"
      "def search(trial):\n"
      f"  rate = {chosen}\n"
      "  return override(tiny('text.txt'), {'optimizer.learning_rate.peak': rate})\n"
    )
    return path

  return write


def study_of(path, folder, trials, storage=None):
  from research.sweep.study import Study

  recipe = load.recipe(f"{path}:search")
  wanted = declared(load.functions(path)["search"])
  return Study(wanted, recipe, folder, trials, storage)


def states(study):
  return {trial.number: trial.state.name for trial in study.all()}


def test_a_trial_that_was_written_down_is_an_ordinary_run(file):
  word = "trial={'number': 7, 'rate': 0.003}"
  recipe = load.recipe(f"{file()}:search", [word, "steps=5"])
  made = recipe.experiment()
  assert made.name == "tiny/trial_7" and made.steps == 5
  assert made.optimizer.learning_rate.peak == 0.003
  assert "--workdir runs" in recipe.command(Path("runs")) and "7" in recipe.command(Path("runs"))


def test_a_trial_may_be_annotated_as_optunas(file):
  pytest.importorskip("optuna")
  path = file()
  text = path.read_text().replace("def search(trial)", "def search(trial: optuna.Trial)")
  path.write_text(f"import optuna\n{text}")
  recipe = load.recipe(f"{path}:search", ["trial={'number': 7, 'rate': 0.003}"])
  assert recipe.experiment().name == "tiny/trial_7"


@pytest.mark.parametrize(
  "values, said",
  [({"rat": 0.1}, "does not say 'rate'.*'rat'"), ({"rate": 7.0}, "7.0 is not between")],
)
def test_a_trial_that_says_something_else_is_told(file, values, said):
  with pytest.raises(UserError, match=said):
    load.recipe(f"{file()}:search", [f"trial={values}"]).experiment()


def test_a_chosen_trial_answers_as_optunas():
  optuna = pytest.importorskip("optuna")
  params = {"rate": 0.5, "layers": 3, "kind": "relu"}
  for trial in (Chosen({"number": 1, **params}), optuna.trial.FixedTrial(params, number=1)):
    assert trial.suggest_float("rate", 0.0, 1.0) == 0.5
    assert trial.suggest_int("layers", 1, 4) == 3
    assert trial.suggest_categorical("kind", ["relu", "gelu"]) == "relu"
    assert trial.number == 1 and trial.params == params


@pytest.mark.parametrize(
  "field, said",
  [
    ({"metric": "loss"}, "is no measure of an evaluation"),
    ({"metric": "a.b", "sampler": "tpee"}, "Did you mean 'tpe'"),
    ({"metric": "a.b", "pruner": "hyperband"}, "write one of median, halving, None"),
  ],
)
def test_a_mistaken_search_is_told(field, said):
  with pytest.raises(UserError, match=said):
    Search(**field)


def test_a_grid_needs_values_that_end():
  grid = Grid()
  grid.suggest_float("a", 0.1, 0.5, step=0.2)
  grid.suggest_int("b", 1, 3)
  assert grid.space == {"a": pytest.approx([0.1, 0.3, 0.5]), "b": [1, 2, 3]}
  with pytest.raises(UserError, match="no end of values of 'c'"):
    grid.suggest_float("c", 0.1, 0.5)


def test_a_trial_takes_the_last_value_of_a_grid():
  grid = Grid()
  grid.suggest_float("a", 0.1, 0.3, step=0.1)  # 0.1 + 2 * 0.1 is more than 0.3
  last = Chosen({"a": grid.space["a"][2]})
  assert last.suggest_float("a", 0.1, 0.3, step=0.1) == 0.3


def test_numbers_are_counted_once_whoever_asks(file, tmp_path):
  path = file()
  one, other = (study_of(path, tmp_path / "search", 3) for _ in range(2))
  first, second = one.take(), other.take()
  assert (first.number, second.number) == (0, 1)
  assert first.experiment.name == "tiny/trial_0"
  third = one.take()
  assert other.take() is None and one.take() is None  # all three are somebody's
  one.done(first, 2.0)
  one.done(third, 1.0)
  second.release()  # as the system does for who was killed
  again = one.take()
  assert again.number == 1 and again.recipe == second.recipe
  one.pruned(again)
  assert one.take() is None
  assert [trial.number for trial in other.all()] == [2, 0, 1]  # the best first


def test_the_same_is_drawn_again(file, tmp_path):
  path = file("sampler='tpe'")
  drawn = []
  for folder in ("one", "two"):
    study = study_of(path, tmp_path / folder, 3)
    for value in (3.0, 1.0, 2.0):
      held = study.take()
      study.done(held, value)
      drawn.append(held.recipe.knobs["trial"]["rate"])
  assert drawn[:3] == drawn[3:] and len(set(drawn)) == 3


def test_a_secret_of_a_search_is_written_down_nowhere(file, tmp_path):
  path = file()
  path.write_text(path.read_text().replace("def search(trial)", "def search(trial, password)"))
  recipe = load.recipe(f"{path}:search", ["password=opensesame"])
  from research.sweep.study import Study

  Study(declared(load.functions(path)["search"]), recipe, tmp_path / "s", 1, None).take()
  written = [x.read_text() for x in (tmp_path / "s").rglob("*") if x.is_file()]
  assert written and not any("opensesame" in text for text in written)


def test_a_trial_that_comes_no_further_is_given_up(file, tmp_path):
  study = study_of(file(), tmp_path / "search", 1)
  for _ in range(3):
    study.take().release()
  assert study.take() is None
  assert states(study) == {0: "FAIL"}


def test_what_is_worse_than_the_median_is_pruned(file, tmp_path):
  import optuna

  path = file("sampler='random', pruner='median'")
  study = study_of(path, tmp_path / "search", 7)
  for value in (1.0, 2.0, 3.0, 4.0, 5.0):
    held = study.take()
    assert not held.report(10, value)
    study.done(held, value)
  bad, good = study.take(), study.take()
  assert bad.report(10, 9.0) and not good.report(10, 0.5)
  assert not bad.report(10, 9.0)  # once
  study.pruned(bad)
  assert study.all()[-2].state == optuna.trial.TrialState.PRUNED


def test_a_grid_has_as_many_trials_as_combinations(file, tmp_path):
  path = file("sampler='grid'", "trial.suggest_categorical('rate', [0.1, 0.2, 0.3])")
  study = study_of(path, tmp_path / "search", 100)
  held = [study.take() for _ in range(study.trials)]
  assert sorted(each.recipe.knobs["trial"]["rate"] for each in held) == [0.1, 0.2, 0.3]
  assert study.take() is None
  for each in held:
    study.done(each, 1.0)
  assert set(states(study).values()) == {"COMPLETE"}


def test_a_database_serves_as_well(file, tmp_path):
  study = study_of(file(), tmp_path / "search", 2, f"sqlite:///{tmp_path}/trials.db")
  study.done(study.take(), 1.0)
  again = study_of(file(), tmp_path / "search", 2, f"sqlite:///{tmp_path}/trials.db")
  assert again.take().number == 1
  with pytest.raises(UserError, match="cannot be opened"):
    study_of(file(), tmp_path / "search", 2, "nosuch://host/trials")


def test_a_folder_leaves_the_trials_of_another_alone_until_that_is_silent(
  file, tmp_path, monkeypatch
):
  path, url = file(), f"sqlite:///{tmp_path}/trials.db"
  one, other = (study_of(path, tmp_path / name, 2, url) for name in ("one", "other"))
  assert one.take().number == 0
  assert other.take().number == 1 and other.take() is None
  monkeypatch.setattr("research.sweep.study.SILENT", 0)
  assert other.take().number == 0


def test_where_there_are_no_locks_a_search_takes_none_of_its_trials_twice(
  file, tmp_path, monkeypatch
):
  def refuse(*_):
    raise OSError(errno.ENOSYS, "Function not implemented")

  monkeypatch.setattr("fcntl.flock", refuse)
  study = study_of(file(), tmp_path / "search", 3)
  held = [study.take() for _ in range(3)]
  assert [trial.number for trial in held] == [0, 1, 2] and study.take() is None
  held[1].release()  # whose run was stopped
  assert study.take().number == 1


def test_the_lock_of_a_search_is_seen_from_a_relative_folder(tmp_path, monkeypatch):
  pytest.importorskip("optuna")
  from research.sweep import choosing

  monkeypatch.chdir(tmp_path)
  Path("runs/s").mkdir(parents=True)
  choosing.storage(Path("runs/s"), None)._backend._lock.acquire()
  assert Path("runs/s/search.journal.lock").exists()  # else nobody sees how old it is


def test_a_search_whose_folders_cannot_be_made_is_told(file, tmp_path, capsys):
  pytest.importorskip("optuna")
  from research.sweep.search import search

  path, folder = file(), tmp_path / "s"
  folder.mkdir()
  (folder / "tiny").touch()
  wanted = declared(load.functions(path)["search"])
  with pytest.raises(UserError, match="the first 3 trials have failed"):
    search(wanted, load.recipe(f"{path}:search"), folder, trials=5, workers=1)
  assert "tiny/trial_0 cannot be made: " in capsys.readouterr().out


def test_another_search_has_another_folder(file, tmp_path):
  study_of(file(), tmp_path / "search", 2)
  path = file()
  path.write_text(path.read_text().replace("heldout.loss", "heldout.nats"))
  load.sys.modules.pop(load.functions(path)["search"].__module__)
  with pytest.raises(UserError, match="holds another search of rates:search"):
    study_of(path, tmp_path / "search", 2)


def test_a_metric_that_nothing_measures_is_told(file, tmp_path):
  path = file()
  path.write_text(path.read_text().replace("heldout.loss", "held.loss"))
  with pytest.raises(UserError, match=r"tiny/trial_0 has no evaluation 'held'. .*'heldout'"):
    study_of(path, tmp_path / "search", 2).take()


def test_without_optuna_it_says_how_to_have_it(file, tmp_path, monkeypatch):
  for name in ("optuna", *(f"research.sweep.{x}" for x in ("choosing", "study", "search"))):
    monkeypatch.delitem(sys.modules, name, raising=False)
  monkeypatch.setitem(sys.modules, "optuna", None)
  words = ["sweep", f"{file()}:search", "--trials", "2", "--workdir", str(tmp_path / "search")]
  options = grammar.parsers()[0].parse_args(words)
  with pytest.raises(UserError, match=r"pip install 'research\[search\]'"):
    commands.sweep(options)
  assert not (tmp_path / "search").exists()


def searching(target, folder, trials, workers, seconds):
  """A search in a process of its own, whose runs take so many seconds and train nothing."""
  words = ["from tests.searching import main; main()", target, folder, trials, workers, seconds]
  return subprocess.Popen(
    [sys.executable, "-c", *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, text=True
  )


@pytest.mark.slow
def test_who_is_killed_leaves_nothing_undone_and_nothing_done_twice(file, tmp_path):
  path, folder = file("sampler='tpe'"), tmp_path / "s"
  target = f"{path}:search"
  killed = searching(target, folder, 6, 2, 4)
  beside = searching(target, folder, 6, 1, 4)
  while len(list(folder.glob("tiny/*/metrics.jsonl"))) < 3:
    time.sleep(0.1)
  os.kill(killed.pid, signal.SIGKILL)
  killed.wait()
  beside.communicate()
  last = searching(target, folder, 6, 2, 1)  # whatever of it is left
  out, _ = last.communicate()
  assert last.returncode == 0
  study = study_of(path, folder, 6)
  assert set(states(study)) == set(range(6)) and set(states(study).values()) == {"COMPLETE"}
  for run in folder.glob("tiny/trial_*"):
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [10, 20, 30, 40]
  starts = [len((run / "starts").read_text().splitlines()) for run in folder.glob("tiny/trial_*")]
  assert 6 < sum(starts) <= 8  # the two that were killed began twice
  best = study.all()[0]
  words = f'{{"number": {best.number}, "rate": {best.params["rate"]!r}}}'
  assert f"'trial={words}'" in out.replace("\n", "")


@pytest.mark.slow
def test_a_pruned_run_has_not_failed(file, tmp_path):
  rates = "trial.suggest_float('rate', *((0.009, 0.011) if trial.number < 5 else (0.8, 0.9)))"
  path, folder = file("sampler='random', pruner='median'", rates), tmp_path / "s"
  out, _ = searching(f"{path}:search", folder, 6, 1, 2).communicate()
  told = json.loads((folder / "tiny" / "trial_5" / "pruned.json").read_text())
  assert told["metric"] == "heldout.loss" and told["step"] < 40
  assert f"tiny/trial_5: pruned at step {told['step']}" in out
  assert states(study_of(path, folder, 6)) == {**dict.fromkeys(range(5), "COMPLETE"), 5: "PRUNED"}
