"""Rows beside those of like length, so that a short text does not cost what a long one costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from research.nn import platform

SHORTEST = 16  # tokens of the shortest batch


def compiled(objective: Any, model: Any) -> Callable[[Any, dict[str, np.ndarray]], Any]:
  """From parameters and a batch to what the objective predicts."""
  apply = nn.apply(lambda model, batch: objective.predict(model, batch), model)
  options = platform.compiler_options() or None
  return jax.jit(lambda params, batch: apply({"params": params}, batch), compiler_options=options)


def outputs(
  predict: Callable[[dict[str, np.ndarray]], Mapping[str, Any]],
  arrays: Mapping[str, np.ndarray],
  rows: int,
) -> list[dict[str, np.ndarray]]:
  """What a model says of every row, in their order.

  A row is cut to the length of the batch it is in; so are results of each of its tokens.

  Args:
    predict: from a batch to results, arrays with the rows first.
    arrays: (N, L) each, `segments` among them: 0 is padding, which ends a row.
    rows: of a batch, a power of two; fewer are filled up to one with padding.
  """
  found: list[dict[str, np.ndarray]] = [{}] * len(arrays["segments"])
  begun = []  # the device computes while the host makes the next batch
  for numbers, length in batches(arrays["segments"], rows):
    batch = {name: x[numbers, :length] for name, x in arrays.items()}
    missing = ((0, (1 << (len(numbers) - 1).bit_length()) - len(numbers)), (0, 0))
    begun.append((numbers, predict({name: np.pad(x, missing) for name, x in batch.items()})))
  for numbers, results in begun:
    results = jax.device_get(results)
    for place, number in enumerate(numbers):
      found[number] = {name: x[place] for name, x in results.items()}
  return found


def batches(segments_NL: np.ndarray, rows: int) -> Iterator[tuple[np.ndarray, int]]:
  """The numbers of the rows of every batch, and the length that it is computed with.

  Lengths are 2^n and 3 * 2^n, and L: for each a program is compiled.
  """
  lengths_N = np.max(np.arange(1, segments_NL.shape[1] + 1) * (segments_NL > 0), axis=1)
  order_N = np.argsort(lengths_N, kind="stable")
  for start in range(0, len(order_N), rows):
    numbers = order_N[start : start + rows]
    yield numbers, rounded(int(lengths_N[numbers[-1]]), segments_NL.shape[1])


def rounded(length: int, longest: int) -> int:
  """The least of those lengths that holds so many tokens."""
  size = SHORTEST
  while size < length:
    size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
  return min(size, longest)
