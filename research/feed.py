"""From rows of a batch, read by this process, to arrays on the mesh of all processes."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np

from research.sharding import Layout


def sharding(layout: Layout, shape: tuple[int, ...]) -> jax.sharding.NamedSharding:
  """How an array of a global batch is split: by its rows alone.

  Raises:
    UserError: the rows do not divide over the mesh.
  """
  return layout.sharding("B" + "." * (len(shape) - 1), shape)


def rows(layout: Layout, batch_size: int) -> np.ndarray:
  """The rows of a global batch that the devices of this process hold, in ascending order.

  On a mesh that splits the batch over all processes, these are the shares of one whole. Where
  processes hold the same rows, as under tensor parallelism, each of them reads them.
  """
  shape = (batch_size,)
  held = sharding(layout, shape).addressable_devices_indices_map(shape)
  numbers = np.arange(batch_size)
  return np.unique(np.concatenate([numbers[index] for index in held.values()]))


def place(
  layout: Layout, batch: Mapping[str, np.ndarray], batch_size: int | None = None
) -> dict[str, jax.Array]:
  """The global batch, of which `batch` holds the `rows` of this process.

  Args:
    layout: mesh and rules.
    batch: name -> array with the rows first.
    batch_size: of the global batch; None where `batch` is all of it.
  """

  size = len(next(iter(batch.values()))) if batch_size is None else batch_size
  mine = rows(layout, size)

  def whole(x: np.ndarray) -> jax.Array:
    def piece(index: tuple[slice, ...]) -> np.ndarray:
      start, end, _ = index[0].indices(size)
      at = int(np.searchsorted(mine, start))
      return x[at : at + end - start]

    shape = (size, *x.shape[1:])
    return jax.make_array_from_callback(shape, sharding(layout, shape), piece)

  return {name: whole(x) for name, x in batch.items()}
