"""Checkpoints on Orbax: the state under plain names, one layer at a time, restored strictly.

Scanned layers live in memory as one array with a leading layer axis, under a path that says so
(`blocks/0::1/...`: every layer from 0). On disk each layer has a name of its own (`blocks/3/...`),
so that a checkpoint does not depend on how the layers were run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from research.errors import UserError

_STACKED = re.compile(r"(\d+):\d*:(\d+)")


def names(tree: Any) -> list[str]:
  """The path of every leaf as `a/b/c`, in the order of `jax.tree.leaves`."""
  return [
    "/".join(_word(key) for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)
  ]


def unstack(tree: Any) -> dict[str, Any]:
  """Name -> array, one entry a layer; works on arrays and on their abstract shapes."""
  flat = {}
  for name, leaf in zip(names(tree), jax.tree.leaves(tree), strict=True):
    stacked = _STACKED.search(name)
    if not stacked:
      flat[name] = leaf
      continue
    start, step = map(int, stacked.groups())
    for i in range(leaf.shape[0]):
      layer = f"{name[: stacked.start()]}{start + i * step}{name[stacked.end() :]}"
      flat[layer] = _layer(leaf, i)
  return flat


def restack(flat: dict[str, Any], like: Any) -> Any:
  """The inverse of `unstack`: a tree shaped as `like` with the arrays of `flat`."""
  leaves = []
  for name, leaf in zip(names(like), jax.tree.leaves(like), strict=True):
    stacked = _STACKED.search(name)
    if not stacked:
      leaves.append(flat[name])
      continue
    start, step = map(int, stacked.groups())
    layers = [
      flat[f"{name[: stacked.start()]}{start + i * step}{name[stacked.end() :]}"]
      for i in range(leaf.shape[0])
    ]
    stack = jax.jit(lambda *parts: jnp.stack(parts), out_shardings=leaf.sharding)
    leaves.append(stack(*layers))
  return jax.tree.unflatten(jax.tree.structure(like), leaves)


class Checkpoints:
  """The checkpoints of a run: `save` returns before the files are written, `close` waits."""

  def __init__(self, folder: Path, keep: int | None = None):
    self.folder = Path(folder).absolute()
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep, create=keep is not None, step_prefix=None
    )
    self.manager = ocp.CheckpointManager(
      self.folder, options=options, item_handlers=ocp.PyTreeCheckpointHandler()
    )

  def __enter__(self) -> Checkpoints:
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
    """Waits for the last save, unless an error may mean that another process is gone."""
    if kind is None or jax.process_count() == 1:
      self.close()

  def latest(self) -> int | None:
    """The newest step, or None when nothing was saved."""
    return self.manager.latest_step()

  def save(self, step: int, state: Any) -> None:
    """Begins to write `state`; donating its arrays is safe once this returns."""
    self.manager.save(step, args=ocp.args.PyTreeSave(_nested(unstack(state))), force=True)

  def restore(self, like: Any, step: int | None = None, under: str = "") -> Any:
    """The state at `step` (the newest by default), on the devices that `like` names.

    Args:
      like: a tree of `jax.ShapeDtypeStruct` with shardings.
      step: which checkpoint.
      under: the part of the stored state that `like` stands for, for example "params".

    Raises:
      UserError: no such step, or arrays whose names, shapes or dtypes differ (the first are told).
    """
    steps = self.manager.all_steps()
    step = self.manager.latest_step() if step is None else step
    if step is None or step not in steps:
      raise UserError(
        f"{self.folder} has no checkpoint{'' if step is None else f' of step {step}'}; "
        f"it has {', '.join(map(str, sorted(steps))) or 'none'}."
      )
    wanted = unstack(like if not under else {under: like})
    stored = _flat(self.manager.item_metadata(step))
    self._check(wanted, {k: v for k, v in stored.items() if not under or k in wanted}, step)
    args = ocp.args.PyTreeRestore(
      item=_nested(wanted),
      restore_args=_nested(
        {
          name: ocp.ArrayRestoreArgs(
            sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype
          )
          for name, leaf in wanted.items()
        }
      ),
      partial_restore=bool(under),
    )
    restored = _flat(self.manager.restore(step, args=args))
    tree = restack(restored, {under: like} if under else like)
    return tree[under] if under else tree

  def close(self) -> None:
    """Waits for the last save, and fails if it failed."""
    self.manager.wait_until_finished()
    self.manager.close()

  def _check(self, wanted: dict[str, Any], stored: dict[str, Any], step: int) -> None:
    """Orbax casts dtypes and ignores what is absent; we compare first, and say what differs."""
    wrong = [f"{name} is missing" for name in wanted if name not in stored]
    wrong += [f"{name} is not of this model" for name in stored if name not in wanted]
    wrong += [
      f"{name} is {_say(stored[name])}, wanted {_say(leaf)}"
      for name, leaf in wanted.items()
      if name in stored
      and (tuple(stored[name].shape), stored[name].dtype) != (tuple(leaf.shape), leaf.dtype)
    ]
    if wrong:
      raise UserError(
        f"{self.folder}/{step} is a checkpoint of another model: {'; '.join(wrong[:3])}"
        f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}; "
        "use the experiment that wrote it, or another --workdir."
      )


def _layer(leaf: Any, i: int) -> Any:
  if not isinstance(leaf, jax.ShapeDtypeStruct):
    return leaf[i]
  sharding = leaf.sharding
  if sharding is not None:
    spec = jax.sharding.PartitionSpec(*sharding.spec[1:])
    sharding = jax.sharding.NamedSharding(sharding.mesh, spec)
  return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype, sharding=sharding)


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
  tree: dict[str, Any] = {}
  for name, leaf in flat.items():
    *folders, last = name.split("/")
    node = tree
    for folder in folders:
      node = node.setdefault(folder, {})
    node[last] = leaf
  return tree


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
  tree = getattr(tree, "tree", tree) if not isinstance(tree, dict) else tree
  flat = {}
  for key, value in tree.items():
    name = f"{prefix}{key}"
    flat.update(_flat(value, f"{name}/") if isinstance(value, dict) else {name: value})
  return flat


def _say(leaf: Any) -> str:
  return f"{jnp.dtype(leaf.dtype).name}{list(leaf.shape)}"


def _word(key: Any) -> str:
  for attribute in ("key", "name", "idx"):
    if hasattr(key, attribute):
      return str(getattr(key, attribute))
  return str(key)
