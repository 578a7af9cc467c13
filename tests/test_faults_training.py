"""A few of each kind of fault in training; `python -m tests.faults KIND` tries them all."""

import jax
import pytest
from faults import endurance, in_a_row, numerics, resume

from research import Sharding


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  """Which compiles faster than eight."""
  mesh = Sharding(mesh={"data": 1}).make_mesh(jax.devices()[:1])
  monkeypatch.setattr(Sharding, "make_mesh", lambda self: mesh)


def quietly(tried, of):
  """Says nothing of how far it is."""


def all_held(results):
  assert {case: problem for case, problem in results if problem} == {}


def test_bad_batches_cost_their_steps_and_nothing_else(tmp_path):
  all_held(numerics.results([numerics.Single("spike", "gradient", "bfloat16")], tmp_path))


@pytest.mark.slow
def test_so_many_in_a_row_end_a_run_though_it_was_stopped_between_them(tmp_path):
  all_held(numerics.results([in_a_row.Ends("inf", "loss", "float32", stopped=9)], tmp_path))


def test_a_run_that_goes_back_comes_to_what_the_batches_make_that_are_left(tmp_path):
  all_held(numerics.results([in_a_row.GoesBack("nan", "gradient", "float32")], tmp_path))


@pytest.mark.slow
def test_a_run_goes_on_in_a_fresh_process_as_if_nothing_had_happened(tmp_path):
  all_held(resume.results([resume.Case("gpt", [(10, "kill")])], tmp_path))


@pytest.mark.slow
def test_saves_leave_nothing_behind_in_memory_or_on_the_disk():
  outcome = endurance.run(20, 0, quietly)
  # In so short a run pools are still being filled: descriptors and threads cannot be judged.
  assert [text for text in outcome.failures if text.startswith(("memory", "folders"))] == []
