"""The order of batches is arithmetic."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from research.data import batches, epoch
from research.errors import UserError


class Numbers:
  """Examples that say which one they are and in which epoch they were read."""

  def __init__(self, size):
    self.size = size

  def __len__(self):
    return self.size

  def take(self, indices, epoch):
    ones = np.ones(len(indices), np.int64)
    return {"example": np.asarray(indices), "epoch": ones * epoch, "segments": ones[:, None]}


FROZEN = [7, 2, 4, 0, 5, 3, 1, 6, 3, 4, 2, 1]


def shares(batch_size, count):
  """The rows of each of `count` processes."""
  return np.arange(batch_size).reshape(count, -1)


def first(count, *args, **named):
  return list(itertools.islice(batches(*args, **named), count))


def assert_same(one, other):
  assert len(one) == len(other)
  for a, b in zip(one, other):
    assert a.keys() == b.keys()
    for key in a:
      np.testing.assert_array_equal(a[key], b[key])


def test_batches_are_a_function_of_seed_and_step():
  once, again = (first(12, Numbers(10), 4, seed=3) for _ in range(2))
  assert_same(once, again)
  other = first(12, Numbers(10), 4, seed=4)
  assert any((a["example"] != b["example"]).any() for a, b in zip(once, other))


@pytest.mark.parametrize("threads", [0, 1, 5])
def test_threads_do_not_change_the_order(threads):
  expected = first(20, Numbers(17), 4, seed=1, threads=2)
  assert_same(first(20, Numbers(17), 4, seed=1, threads=threads, ahead=3), expected)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("shuffle", [True, False])
def test_any_number_of_processes_gives_the_same_global_batches(count, shuffle):
  expected = first(9, Numbers(10), 8, seed=1, shuffle=shuffle)
  parts = [
    first(9, Numbers(10), 8, seed=1, shuffle=shuffle, rows=rows) for rows in shares(8, count)
  ]
  joined = [
    {key: np.concatenate([p[key] for p in step]) for key in step[0]} for step in zip(*parts)
  ]
  assert_same(joined, expected)


def test_starting_later_continues_the_same_order_across_epochs():
  everything = first(30, Numbers(7), 4, seed=2)
  for start in (1, 2, 13, 29):
    assert_same(first(30 - start, Numbers(7), 4, seed=2, start=start), everything[start:])


def test_starting_far_away_reads_nothing_before():
  batch = first(1, Numbers(7), 4, seed=2, start=10**12, threads=0)[0]
  assert batch["epoch"][0] == 4 * 10**12 // 7


@pytest.mark.parametrize(("size", "batch_size"), [(10, 4), (10, 5), (3, 8), (1, 4)])
def test_every_epoch_has_every_example_once_in_its_own_order(size, batch_size):
  steps = -(-6 * size // batch_size)
  got = first(steps, Numbers(size), batch_size, seed=5)
  examples = np.concatenate([b["example"] for b in got])[: 6 * size].reshape(6, size)
  epochs = np.concatenate([b["epoch"] for b in got])[: 6 * size].reshape(6, size)
  for number in range(6):
    assert sorted(examples[number]) == list(range(size))
    assert (epochs[number] == number).all()
  if size >= 10:
    assert len({tuple(row) for row in examples}) == 6


def test_the_order_is_frozen():
  # Written down once: a change of these numbers would break the replay of every run.
  got = np.concatenate([b["example"] for b in first(3, Numbers(8), 4, seed=0)])
  assert got.tolist() == FROZEN


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 3, 7, 8, 9])
def test_a_pass_gives_every_example_once_in_order_and_pads_the_last_batch(size, count):
  parts = [list(epoch(Numbers(size), 4, rows=rows)) for rows in shares(4, count)]
  assert {len(part) for part in parts} == {-(-size // 4)}
  examples, segments = [], []
  for step in zip(*parts):
    examples += [x for part in step for x in part["example"]]
    segments += [x for part in step for x in part["segments"][:, 0]]
  real = [x for x, segment in zip(examples, segments) if segment]
  assert real == list(range(size))
  assert len(examples) % 4 == 0


def test_a_pass_can_be_limited():
  assert len(list(epoch(Numbers(40), 4, limit=3))) == 3
  assert len(list(epoch(Numbers(4), 4, limit=3))) == 1


@pytest.mark.parametrize(
  ("size", "batch_size", "message"), [(0, 4, "no examples"), (8, 0, "batch_size=0")]
)
def test_mistakes_are_told(size, batch_size, message):
  with pytest.raises(UserError, match=message):
    batches(Numbers(size), batch_size, seed=0)


def test_rows_that_are_not_neighbours_are_read_as_they_stand():
  whole = first(5, Numbers(7), 4, seed=1)
  apart = first(5, Numbers(7), 4, seed=1, rows=np.array([0, 3]))
  assert_same(apart, [{key: value[[0, 3]] for key, value in batch.items()} for batch in whole])


def test_looking_at_data_brings_no_heavy_library():
  heavy = ("jax", "grain", "tensorflow_datasets", "tokenizers", "sentencepiece", "tensorflow")
  code = f"import sys, research.data; print([m for m in {heavy} if m in sys.modules])"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == "[]"
