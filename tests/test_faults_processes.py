"""A few of each kind of fault in processes; `python -m tests.faults KIND` tries them all."""

import random

import pytest
from faults import elastic, killing, kills, processes, saves, signals

STEPS = 40
SLOW = pytest.mark.slow


def quietly(tried, of):
  """Says nothing of how far it is."""


def all_held(results, tried):
  problems = [problem for _, problem in results]
  assert [problem for problem in problems if problem] == []
  assert len(problems) == tried


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def unbroken(folder):
  """What the tiny GPT comes to that nobody disturbs."""
  gpt, _ = killing.subjects(folder, STEPS)
  return killing.unbroken(gpt, folder / "unbroken")


def test_a_run_killed_once_it_saves_comes_to_the_very_bits_of_an_unbroken_one(
  folder, unbroken, monkeypatch
):
  monkeypatch.setattr(saves, "DELAY", 0.0)  # a quick machine may still be done with it
  gpt, _ = killing.subjects(folder, STEPS)
  figures, draw = {"kills within a save": 0}, random.Random(0)
  all_held(killing.killed(gpt, 1, draw, saves.in_a_save, folder, figures, unbroken), tried=1)


@pytest.mark.slow  # test_looks.py has signals amid evaluations
def test_a_signal_ends_an_evaluation_with_a_checkpoint_that_is_gone_on_from(folder, unbroken):
  gpt, _ = killing.subjects(folder, STEPS)
  draw, seconds = random.Random(0), {"evaluating": []}
  all_held(signals.signalled(gpt, 1, draw, folder, seconds, unbroken, ["evaluating"]), tried=1)


@pytest.mark.parametrize(("first", "then"), elastic.THREADS)
def test_batches_do_not_depend_on_the_threads_that_read_them(folder, first, then):
  text = elastic.written(folder / "text.txt")
  assert elastic.threads(text, first, then) == ""


@SLOW
def test_a_run_killed_at_random_times_comes_to_the_very_bits_of_an_unbroken_one(tmp_path):
  _, clip = killing.subjects(tmp_path, STEPS)
  figures, draw = {"kills within a save": 0}, random.Random(0)
  all_held(killing.killed(clip, 2, draw, kills.any_time, tmp_path, figures), tried=2)


@SLOW
def test_signals_end_compiling_and_saving_with_a_checkpoint_too(folder, unbroken):
  places = ["compiling", "saving"]
  gpt, _ = killing.subjects(folder, STEPS)
  draw, seconds = random.Random(0), {place: [] for place in places}
  all_held(signals.signalled(gpt, 2, draw, folder, seconds, unbroken, places), tried=2)


@SLOW
def test_a_fault_in_one_process_ends_all_and_they_come_to_what_undisturbed_ones_do(tmp_path):
  chosen = [processes.Case(2, "abort", 0, "save"), processes.Case(2, "stuck", 1, "evaluation")]
  all_held(processes.results(chosen, tmp_path, []), tried=2)


@SLOW
def test_a_run_of_eight_devices_goes_on_with_two(tmp_path):
  all_held(elastic.results([((8, 1), (2, 1))], tmp_path, []), tried=1)
