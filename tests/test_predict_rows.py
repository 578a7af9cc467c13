"""Rows are predicted beside those of like length: nothing changes but what it costs."""

import numpy as np
import pytest

from research.predict import rows


def padded(lengths, longest):
  there = np.arange(longest) < np.asarray(lengths)[:, None]
  tokens = np.random.RandomState(0).randint(1, 100, there.shape) * there
  return {"tokens": tokens.astype(np.int32), "segments": there.astype(np.int32)}


@pytest.mark.parametrize("lengths", [[1, 60, 3, 17, 100, 16, 5], [9], [100] * 5])
def test_every_row_has_its_own_results_in_order(lengths):
  arrays, seen = padded(lengths, 100), []

  def predict(batch):
    seen.append(batch["tokens"].shape)
    return {"sum": batch["tokens"].sum(axis=1), "words": batch["tokens"] * 2}

  found = rows.outputs(predict, arrays, 4)
  assert [row["sum"] for row in found] == arrays["tokens"].sum(axis=1).tolist()
  for row, tokens, length in zip(found, arrays["tokens"], lengths):
    np.testing.assert_array_equal(row["words"][:length], 2 * tokens[:length])
  assert all(count & (count - 1) == 0 and count <= 4 for count, _ in seen)


def test_short_rows_are_not_computed_as_long_as_the_longest():
  lengths = [5] * 32 + [100] * 32
  shapes = [
    (len(numbers), length) for numbers, length in rows.batches(padded(lengths, 128)["segments"], 32)
  ]
  assert shapes == [(32, 16), (32, 128)]


def test_few_lengths_are_compiled():
  assert {rows.rounded(n, 200) for n in range(201)} == {16, 24, 32, 48, 64, 96, 128, 192, 200}
