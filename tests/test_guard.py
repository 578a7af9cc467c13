"""What counts as out of the ordinary, and what becomes of the steps that are not taken."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import NumericsError, UserError
from research.guard import Guard
from research.metrics import Mean
from research.skipped import MOST, Skipped

WINDOW = 8


def judged(guard, losses, norms=None):
  """Which of the steps are taken, and the statistics after them."""
  judge = jax.jit(guard.judge)
  statistics, taken = guard.start(), []
  norms = np.ones(len(losses)) if norms is None else norms
  for loss, norm in zip(losses, norms, strict=True):
    ok, statistics = judge(statistics, jnp.float32(loss), jnp.float32(norm))
    taken.append(bool(ok))
  return taken, statistics


def moments(values, window):
  """Mean and variance of (n, 2) values by their weights: the first `window` count alike, each
  later one for 1 / window of all, those before for the rest."""
  weights = np.zeros(0)
  for i in range(len(values)):
    share = 1 / min(i + 1, window)
    weights = np.append(weights * (1 - share), share)
  mean = weights @ values
  return mean, weights @ (values - mean) ** 2


@pytest.mark.parametrize("steps", [1, 2, WINDOW, WINDOW + 1, 100])
def test_mean_and_variance_are_those_of_the_weighted_steps(steps):
  values = np.random.RandomState(steps).lognormal(1.0, 0.5, (steps, 2))
  taken, statistics = judged(Guard(spike=1e9, window=WINDOW), *values.T)
  mean, variance = moments(values, WINDOW)
  assert all(taken) and statistics.count == steps
  np.testing.assert_allclose(statistics.mean, mean, rtol=1e-5)
  np.testing.assert_allclose(statistics.variance, variance, rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e4], ids=str)
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_taken_is_not_in_the_statistics(bad, where):
  values = np.random.RandomState(0).lognormal(1.0, 0.1, (20, 2))
  poisoned = np.insert(values, 12, values[12], axis=0)
  poisoned[12, ["loss", "gradient"].index(where)] = bad
  guard = Guard(spike=6.0, window=WINDOW)
  without, clean = judged(guard, *values.T)
  taken, statistics = judged(guard, *poisoned.T)
  assert all(without)
  assert [i for i, ok in enumerate(taken) if not ok] == [12]
  jax.tree.map(np.testing.assert_array_equal, statistics, clean)


def test_a_spike_is_so_many_deviations_above_the_mean_and_not_below():
  losses = np.tile([1.0, 3.0], 20)  # mean 2, deviation 1
  guard = Guard(spike=6.0, window=40)
  for last, expected in ((7.9, True), (8.1, False), (-100.0, True)):
    taken, _ = judged(guard, [*losses, last])
    assert all(taken[:-1]) and taken[-1] == expected, last


def test_nothing_is_a_spike_before_the_window_is_full():
  losses = [1.0, 1.1] * (WINDOW // 2)
  for i in range(WINDOW + 1):
    taken, _ = judged(Guard(spike=6.0, window=WINDOW), [*losses[:i], 50.0])
    assert taken[-1] == (i < WINDOW), i


@pytest.mark.parametrize("first", [0, 3])
def test_a_loss_too_large_to_be_squared_does_not_blind_the_guard(first):
  """In float32 its square is infinite, and so would be the deviation ever after."""
  losses = np.full(WINDOW + 5, 1.0)
  losses[first], losses[-1] = 1e30, 1e6
  losses[1::2] += 0.1
  taken, statistics = judged(Guard(spike=6.0, window=WINDOW), losses)
  assert [i for i, ok in enumerate(taken) if not ok] == [first, len(losses) - 1]
  assert np.isfinite(statistics.variance).all()


def test_without_spikes_all_that_is_finite_is_taken():
  for guard in (Guard(), Guard(rollbacks=1)):
    taken, _ = judged(guard, [1.0, 1e30, np.nan, 1.0, np.inf], [1.0, 1.0, 1.0, np.nan, 1.0])
    assert taken == [True, True, False, False, False]


@pytest.mark.parametrize(
  "field, value", [("window", 1), ("tries", 0), ("rollbacks", -1), ("spike", 0.0), ("spike", -1.0)]
)
def test_a_guard_that_makes_no_sense_is_told(field, value):
  with pytest.raises(UserError, match=f"guard.{field}={value} "):
    Guard(**{field: value})


END = 1000  # of a run


class Run:
  """Steps as `train` hands them over; each is named by whether it was taken."""

  def __init__(self, folder, **fields):
    self.said = []
    self.folder = folder / "skipped"
    guard = Guard(**fields)
    self.skipped = Skipped(guard, self.folder, self.said.append, begun=guard.start(), last=END)

  def step(self, number, good):
    one = jnp.ones(())
    measured = {
      "loss": Mean(jnp.float32(2 if good else np.nan), one),
      "gradient_norm": Mean(jnp.float32(1), one),
      "skipped": Mean(jnp.float32(not good), one),
    }
    rows = {"tokens": np.full((2, 3), number, np.int32)}
    return self.skipped.too_many(
      number, measured, rows, lambda: (np.zeros(2, int), np.array([number, number + 1]))
    )

  def steps(self, pattern, start=1):
    return [self.step(start + i, mark == ".") for i, mark in enumerate(pattern)]


def test_a_skipped_step_is_told_once_with_its_batch_and_where_that_is_from(tmp_path):
  run = Run(tmp_path)
  assert run.steps("..x.") == [False] * 4
  run.skipped.settle()
  (path,) = run.folder.iterdir()
  assert path.name == "step-3.npz"
  assert run.said == [
    f"warning: step 3 was not taken (loss nan, gradient norm 1); its batch is in {path}"
  ]
  with np.load(path) as found:
    assert sorted(found) == ["batch/tokens", "epochs", "gradient_norm", "loss", "numbers"]
    assert np.isnan(found["loss"]) and found["gradient_norm"] == 1
    np.testing.assert_array_equal(found["numbers"], [3, 4])
    np.testing.assert_array_equal(found["batch/tokens"], np.full((2, 3), 3))


def test_the_newest_step_is_told_at_the_end(tmp_path):
  run = Run(tmp_path)
  run.steps("..x")
  assert not run.said  # it is not waited for
  run.skipped.settle()
  assert len(run.said) == 1


def test_so_many_in_a_row_end_the_run_and_a_step_between_counts_anew(tmp_path):
  run = Run(tmp_path, tries=3)
  run.steps("xx.xx.xxx")
  with pytest.raises(
    NumericsError, match="3 steps in a row were not taken, the last of them 9"
  ) as error:
    run.step(10, good=True)
  assert error.value.exit_code == 4
  assert str(run.folder) in str(error.value)


def test_the_last_steps_of_a_run_count_too(tmp_path):
  run = Run(tmp_path, tries=2)
  assert run.steps(".x", start=END - 2) == [False] * 2
  with pytest.raises(
    NumericsError, match=f"2 steps in a row were not taken, the last of them {END}"
  ):
    run.step(END, good=False)


def test_resumed_with_no_try_left_the_last_step_that_was_not_taken_is_told(tmp_path):
  guard = Guard(tries=2)
  begun = dataclasses.replace(guard.start(), skipped=jnp.int32(2))
  run = Run(tmp_path)
  run.skipped = Skipped(guard, run.folder, run.said.append, begun=begun, last=END, step=20)
  with pytest.raises(NumericsError, match="2 steps in a row were not taken, the last of them 20"):
    run.step(21, good=True)


def test_it_goes_back_as_often_as_it_may(tmp_path):
  run = Run(tmp_path, tries=2, rollbacks=2)
  for _ in range(2):
    assert run.steps(".xx.") == [False, False, False, True]
  run.steps(".xx")
  with pytest.raises(NumericsError, match="2 steps in a row were not taken, the last of them 3"):
    run.step(4, good=True)


def test_after_going_back_the_step_that_was_under_way_is_forgotten(tmp_path):
  run = Run(tmp_path, tries=2, rollbacks=1)
  assert run.steps("xxx") == [False, False, True]  # the third was dispatched, and is gone
  assert run.steps(".x.") == [False] * 3
  run.skipped.settle()
  assert [line.split()[2] for line in run.said] == ["1", "2", "2"]


def test_only_so_many_batches_are_written_down(tmp_path):
  run = Run(tmp_path, tries=MOST + 9)
  run.steps("x" * (MOST + 2))
  run.skipped.settle()
  assert len(list(run.folder.iterdir())) == MOST
  assert run.said[-1].endswith(f"{run.folder} holds {MOST} batches already")


def test_a_batch_that_cannot_be_written_does_not_end_the_run(tmp_path):
  run = Run(tmp_path)
  run.folder.touch()  # a file where the folder should be
  run.steps("x.")
  assert "its batch cannot be written: File exists" in run.said[0]
