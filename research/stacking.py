"""The names of parameters, and of the layers that stand stacked in one array.

Layers that are scanned live in memory as one array with a leading layer axis, under a path that
says which they are, as a slice: `blocks/0::1/...` is every layer, `blocks/4:8:1/...` the second
four. Each has a name of its own all the same, `blocks/3/...`: checkpoints are written and optimizer
groups are matched by it, so that neither depends on how the layers are run.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp

_STACKED = re.compile(r"(\d+):\d*:(\d+)")


def spell(path: Any) -> str:
  """A key path of JAX as `a/b/c`."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def names(tree: Any) -> list[str]:
  """The path of every leaf as `a/b/c`, in the order of `jax.tree.leaves`."""
  return [spell(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def stacked(name: str) -> bool:
  """Whether an array of this name counts layers along its first axis."""
  return _STACKED.search(name) is not None


def layers(name: str, count: int) -> list[str]:
  """The names of what an array holds: its own, or those of its `count` layers."""
  found = _STACKED.search(name)
  if not found:
    return [name]
  start, step = map(int, found.groups())
  before, after = name[: found.start()], name[found.end() :]
  return [f"{before}{start + i * step}{after}" for i in range(count)]


def unstack(tree: Any) -> dict[str, Any]:
  """Name -> array, one entry a layer; works on arrays and on their abstract shapes."""
  flat = {}
  for name, leaf in zip(names(tree), jax.tree.leaves(tree), strict=True):
    if stacked(name):
      flat |= {layer: _layer(leaf, i) for i, layer in enumerate(layers(name, leaf.shape[0]))}
    else:
      flat[name] = leaf
  return flat


def restack(flat: dict[str, Any], like: Any) -> Any:
  """The inverse of `unstack`: a tree shaped as `like` with the arrays of `flat`."""
  leaves = []
  for name, leaf in zip(names(like), jax.tree.leaves(like), strict=True):
    if not stacked(name):
      leaves.append(flat[name])
      continue
    stack = jax.jit(lambda *parts: jnp.stack(parts), out_shardings=leaf.sharding)
    leaves.append(stack(*(flat[layer] for layer in layers(name, leaf.shape[0]))))
  return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _layer(leaf: Any, i: int) -> Any:
  if not isinstance(leaf, jax.ShapeDtypeStruct):
    return leaf[i]
  sharding = leaf.sharding
  if sharding is not None:
    spec = jax.sharding.PartitionSpec(*sharding.spec[1:])
    sharding = jax.sharding.NamedSharding(sharding.mesh, spec)
  return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype, sharding=sharding)
