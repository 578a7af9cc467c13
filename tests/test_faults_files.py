"""A few of each kind of fault in the file system; `python -m tests.faults KIND` tries them all."""

import errno

import pytest
from faults import children, crash, damage, full, powerloss
from faults.outcome import Unavailable
from faults.refused import refused


def quietly(tried, of):
  """Says nothing of how far it is."""


@pytest.fixture(scope="module")
def forks():
  try:
    with children.children() as server:
      yield server
  except Unavailable as reason:
    pytest.skip(str(reason))


def all_held(outcome, tried):
  assert outcome.failures == []
  assert outcome.held == outcome.tried == tried


def test_a_run_killed_at_any_call_to_the_file_system_loses_nothing(forks):
  all_held(crash.killed(forks, 5, quietly), tried=5)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_a_disk_that_refuses_is_told_at_once_and_costs_one_save(forks, error):
  all_held(refused(forks, error, 4, quietly), tried=4)


def test_what_a_loss_of_power_takes_is_not_missed(forks):
  all_held(powerloss.lost(forks, 4, quietly), tried=12)


def test_whatever_is_damaged_the_step_before_is_restored_and_one_line_says_so():
  all_held(damage.run(6, 0, quietly), tried=6)


@pytest.mark.slow
def test_a_full_disk_ends_a_run_with_code_3_after_three_saves_and_the_last_good_step_stands():
  all_held(full.run(1, 0, quietly), tried=1)
