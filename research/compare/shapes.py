"""What two experiments hold and cost, told from shapes: no device, no data, no compiler."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from research import flops, update
from research.errors import UserError
from research.experiment import Experiment
from research.explain import layout_of
from research.nn import platform
from research.sharding import axes_of
from research.stacking import unstack

MACHINE = "plain"  # without kernels of its own; layers are scanned there, so that 96 trace as one


@dataclasses.dataclass(frozen=True)
class Shapes:
  """An experiment on a mesh that need not be here.

  Attributes:
    program: traced for `MACHINE`; its step may be lowered there.
    batch: shapes of the global batch.
    params: by name, one entry a layer: shape, dtype, sharding.
    optimizer: bytes of its state.
    flops: of a training step's products, see `flops.of_training`.
    tokens: of a step.
  """

  program: update.Program
  batch: dict[str, jax.ShapeDtypeStruct]
  params: dict[str, jax.ShapeDtypeStruct]
  optimizer: int
  flops: float
  tokens: int

  @property
  def mesh(self) -> dict[str, int]:
    """The axes that split something."""
    return {axis: size for axis, size in self.program.layout.mesh.shape.items() if size > 1}

  @property
  def bytes(self) -> int:
    """Of all parameters."""
    return sum(map(nbytes, self.params.values()))

  @property
  def each(self) -> int:
    """Bytes of parameters that one device holds."""
    return sum(nbytes(x) // _parts(x) for x in self.params.values())


def shapes_of(experiment: Experiment, devices: int | None) -> Shapes:
  """Traces the experiment; seconds, whatever its size.

  Raises:
    UserError: it counts its model, or its mesh does not fit so many devices.
  """
  if experiment.optimizer is None:
    raise UserError(f"{experiment.name} counts its model: it has no parameters and no step.")
  batch = update.abstract_batch(experiment)
  layout = layout_of(experiment, devices)
  with platform.compiling_for(MACHINE):
    program = update.build(experiment, layout.mesh, batch)
  state = program.abstract
  return Shapes(
    program=program,
    batch=batch,
    params=unstack(state.params),
    optimizer=sum(map(nbytes, jax.tree.leaves(state.opt_state))),
    flops=flops.of_training(experiment, batch),
    tokens=update.tokens_of(batch),
  )


def nbytes(x: Any) -> int:
  """Of an array or its shape."""
  return math.prod(x.shape) * jnp.dtype(x.dtype).itemsize


@dataclasses.dataclass(frozen=True)
class Changes:
  """Parameters that differ, by name.

  Attributes:
    added, removed: name -> shape, only in the second, or the first.
    reshaped: name -> both shapes.
    moved: name -> both PartitionSpecs, where the shape is the same.
  """

  added: dict[str, Any]
  removed: dict[str, Any]
  reshaped: dict[str, tuple[Any, Any]]
  moved: dict[str, tuple[Any, Any]]

  def any(self) -> bool:
    return bool(self.added or self.removed or self.reshaped or self.moved)


def changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Changes:
  """What differs between two sets of parameters, as in `Shapes.params`."""
  both = [name for name in a if name in b]
  same = [name for name in both if _kind(a[name]) == _kind(b[name])]
  return Changes(
    added={name: x for name, x in b.items() if name not in a},
    removed={name: x for name, x in a.items() if name not in b},
    reshaped={name: (a[name], b[name]) for name in both if _kind(a[name]) != _kind(b[name])},
    moved={name: (a[name], b[name]) for name in same if spec(a[name]) != spec(b[name])},
  )


def spec(x: Any) -> tuple[tuple[str, ...], ...]:
  """The mesh axes that split each dimension; those of size one split nothing."""
  sizes = x.sharding.mesh.shape
  found = [tuple(axis for axis in axes_of(axes) if sizes[axis] > 1) for axes in x.sharding.spec]
  return (*found, *[()] * (len(x.shape) - len(found)))


def folded(names: Iterable[str], key: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
  """Layers alike as one line: `blocks/0..11/mlp/up/kernel`, with the names that it stands for.

  Args:
    names: of parameters.
    key: name -> what must be equal, for names to stand in one line.
  """
  groups: dict[Any, list[str]] = {}
  for name in names:
    groups.setdefault((re.sub(r"(^|/)\d+(?=/|$)", r"\1#", name, count=1), key[name]), []).append(
      name
    )
  lines = []
  for (template, _), members in groups.items():
    if len(members) > 1:
      numbers = sorted(int(re.search(r"(?:^|/)(\d+)(?=/|$)", name)[1]) for name in members)
      lines.append((template.replace("#", _range(numbers), 1), members))
    else:
      lines.append((members[0], members))
  return lines


def _range(numbers: list[int]) -> str:
  """`0..11`, `0..10:2`, or the numbers themselves."""
  steps = {b - a for a, b in itertools.pairwise(numbers)}
  if len(steps) > 1:
    return ",".join(map(str, numbers))
  step = steps.pop()
  return f"{numbers[0]}..{numbers[-1]}" + ("" if step == 1 else f":{step}")


def _kind(x: Any) -> tuple[Any, ...]:
  return x.shape, jnp.dtype(x.dtype).name


def _parts(x: Any) -> int:
  return math.prod(x.sharding.mesh.shape[axis] for axes in spec(x) for axis in axes)
