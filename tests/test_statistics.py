"""Intervals of a few paired differences hold what they say, and so does what could be seen."""

import numpy as np
import pytest
from scipy import stats

from research import statistics
from research.errors import UserError

TRIALS = 1000


def samples(seed, n, draw=np.random.Generator.standard_normal):
  return draw(np.random.default_rng(seed), size=(TRIALS, n))


def found(samples):
  """The share of samples whose interval lies above zero."""
  return np.mean([statistics.mean(sample).above_zero for sample in samples])


def holds(intervals, truth):
  """The share of intervals that hold the truth."""
  return np.mean([low <= truth <= high for low, high in intervals])


@pytest.mark.parametrize("n, tolerance", [(2, 1e-9), (3, 1e-9), (5, 1e-9), (40, 0.02)])
def test_of_a_mean_the_bootstrap_gives_students_interval(n, tolerance):
  """Exactly, where all resamples are taken; of many seeds but for the lot."""
  sample = samples(n, n)[0]
  low, high = stats.t.interval(0.95, n - 1, sample.mean(), stats.sem(sample))
  drawn = statistics.interval(lambda chosen: float(sample[chosen].mean()), n)
  for ours in (statistics.mean(sample), drawn):
    np.testing.assert_allclose((ours.low, ours.high), (low, high), atol=tolerance)


def test_three_seeds_hold_the_truth_as_often_as_they_say():
  ours = [statistics.mean(sample) for sample in samples(1, 3)]
  assert 0.93 <= holds([(i.low, i.high) for i in ours], 0.0) <= 0.97


def test_a_percentile_bootstrap_of_three_would_miss_a_quarter():
  """Even at a level of 100 %: no resample's mean lies outside of the sample."""
  widest = [(sample.min(), sample.max()) for sample in samples(1, 3)]
  assert holds(widest, 0.0) < 0.78


@pytest.mark.parametrize(
  "draw",
  [
    np.random.Generator.standard_normal,
    np.random.Generator.laplace,
    lambda random, size: random.standard_t(2, size),
    # What two equal arms differ by is symmetric, however skewed the noise of each is.
    lambda random, size: random.exponential(size=size) - random.exponential(size=size),
  ],
  ids=["normal", "laplace", "student", "skewed arms"],
)
def test_equal_arms_are_called_better_in_at_most_8_of_100_trials(draw):
  # One of the two sides counts as better, so that 2.5 of 100 are expected.
  assert found(samples(2, 3, draw)) <= 0.04


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_the_effect_that_could_be_seen_is_found_in_80_of_100_trials(n):
  effect = statistics.detectable(2.0, n)
  share = found(2.0 * samples(3, n) + effect)
  assert 0.76 <= share <= 0.84
  assert found(2.0 * samples(3, n) + effect / 3) < 0.5


def test_more_examples_do_not_replace_seeds():
  """A difference within the noise of the seeds stays there, however sharp each number is."""
  assert statistics.detectable(1.0, 3) > 1.9 * statistics.detectable(1.0, 5)
  assert statistics.mean([0.1, 0.2, 0.4]).low < 0 < statistics.mean([0.1, 0.2, 0.4]).high


def test_equal_differences_have_no_noise():
  same = statistics.mean([0.1, 0.1, 0.1])
  assert same.low == same.high == same.estimate and same.above_zero


def test_any_statistic_of_the_seeds_has_an_interval():
  values = np.array([1.0, 2.0, 4.0])
  logs = statistics.interval(lambda chosen: float(np.log(values[chosen].mean())), 3)
  assert logs.estimate == pytest.approx(np.log(7 / 3))
  assert logs.low < logs.estimate < logs.high
  assert (-logs).low == -logs.high


@pytest.mark.parametrize("sample", [[], [1.0], [1.0, float("nan"), 2.0], [1.0, float("inf")]])
def test_what_shows_no_noise_is_refused(sample):
  with pytest.raises(UserError):
    statistics.mean(sample)
