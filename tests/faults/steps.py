"""Checkpoints of a small state that is known by its step."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from research.checkpoint import Checkpoints


def state(step: int) -> dict[str, Any]:
  """Layers of a stack, a scale and a number: no array of one step equals that of another."""
  import jax.numpy as jnp

  kernel_NDF = jnp.arange(4 * 16 * 16, dtype=jnp.float32).reshape(4, 16, 16) + step
  return {
    "params": {"blocks": {"0::1": {"kernel": kernel_NDF}}, "scale": jnp.full(3, 1.0 + step)},
    "step": jnp.int32(step),
  }


def like() -> dict[str, Any]:
  """What `state` returns as shapes, on one device."""
  import jax

  mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
  place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), jax.eval_shape(state, 0)
  )


def same(a: Any, b: Any) -> bool:
  """Whether two trees hold the same bits under the same names."""
  import jax
  import numpy as np

  leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return jax.tree.structure(a) == jax.tree.structure(b) and all(
    x.dtype == y.dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in leaves
  )


def opened(folder: Path, newest: int = 2) -> Checkpoints:
  """`folder`, to write; so many steps stay."""
  from research.checkpoint import Checkpoints
  from research.retention import Keep

  return Checkpoints(folder, keep=Keep(newest=newest))


def save(folder: Path, numbers: Iterable[int], newest: int = 9) -> None:
  """Saves `state` at each of the steps."""
  with opened(folder, newest) as checkpoints:
    for step in numbers:
      checkpoints.save(step, state(step))


def listed(folder: Path) -> list[int]:
  """The steps that stand in `folder` under their names."""
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def content(folder: Path) -> dict[str, bytes | None]:
  """What lies below: the path of each file and folder, and what a file holds."""
  return {
    str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
    for path in sorted(folder.rglob("*"))
  }
