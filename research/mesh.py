"""How an experiment is spread: mesh sizes by axis, the table of rules, presets of both.

A `Sharding` is a value of an experiment; on devices that are there (`make_mesh`), or that are only
thought of (`on`), it becomes a `Layout`.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh

from research.errors import UserError, nearest
from research.sharding import Layout, Rules, axes_of

# From the axis that talks least to the one that talks most: neighbours on the network come last.
AXES = ("stage", "data", "fsdp", "context", "tensor")
NEAR = ("context", "tensor")
TRIAL = "trial"  # over which several training states are split that one program updates

RULES: Rules = (
  ("B", ("data", "fsdp", "stage")),
  ("N", "stage"),
  ("L", "context"),
  ("V", "tensor"),
  ("H", "tensor"),
  ("G", "tensor"),
  ("F", "tensor"),
  ("D", ("fsdp", "context")),
)


@dataclasses.dataclass(frozen=True)
class Sharding:
  """How an experiment is spread over devices.

  Attributes:
    mesh: sizes by axis name; one may be -1, all devices that are left. Axes of `AXES` that are
      not named have size 1; others may be added, with rules that use them. Over `trial` the runs
      of `Trials` are split, which never talk; a run by itself, and evaluations, split rows over it.
    rules: which letter is split over which axes, in order.
    slices: how much of an axis lies across slices, which are joined by a slower network, for
      example {"data": 2}. Where devices come in slices and nothing is said, the first axes share
      their number; `context` and `tensor`, which talk in every layer, only where this says so.
    rounds: how often a batch goes around the stages of a pipeline: in more rounds each stage holds
      more, smaller pieces of the stack, and waits less at the start and the end.
    waves: groups of `stage` microbatches that follow one another through the pipeline.
  """

  mesh: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"data": -1})
  rules: Rules = RULES
  slices: Mapping[str, int] = dataclasses.field(default_factory=dict)
  rounds: int = 1
  waves: int = 2

  def __post_init__(self):
    _check_sizes("sharding.mesh", self.mesh)
    _check_sizes("sharding.slices", self.slices, least=1)
    _check_rules(self.rules)
    first = {TRIAL: self.mesh[TRIAL]} if TRIAL in self.mesh else {}
    object.__setattr__(self, "mesh", {**first, **dict.fromkeys(AXES, 1), **self.mesh})
    for field in ("rounds", "waves"):
      _check_sizes("sharding", {field: getattr(self, field)}, least=1)

  @classmethod
  def parse(cls, text: str) -> Sharding:
    """A preset's name, or sizes as in "fsdp=4,tensor=2"."""
    if text in PRESETS:
      return PRESETS[text]
    sizes = {}
    for word in text.split(","):
      axis, _, size = word.partition("=")
      if axis not in (TRIAL, *AXES) or not re.fullmatch(r"-?\d+", size, re.ASCII):
        known = ", ".join(PRESETS)
        raise UserError(
          f"{text!r} is neither a mesh nor one of {known}.{nearest(axis, [*PRESETS, *AXES])} "
          f"Write sizes as in fsdp=4,tensor=2, of the axes {', '.join((*AXES, TRIAL))}."
        )
      sizes[axis] = int(size)
    return cls(sizes)

  def sizes(self, devices: int) -> dict[str, int]:
    """Every axis with its size on so many devices; UserError when they do not fit."""
    sizes = dict(self.mesh)
    for _, axes in self.rules:
      for axis in axes_of(axes):
        if axis not in sizes:
          raise UserError(
            f"sharding.rules name the mesh axis {axis!r}, but sharding.mesh has "
            f"{', '.join(sizes)}.{nearest(axis, sizes)} Add {axis!r} to the mesh with size 1."
          )
    used = {TRIAL, *(axis for _, axes in self.rules for axis in axes_of(axes))}
    for axis, size in sizes.items():
      if axis not in used and (size != 1 or axis not in AXES):
        raise UserError(
          f"sharding.mesh.{axis}={size}, but no rule splits anything over {axis!r}."
          f"{nearest(axis, used)} Its devices would all do the same: add a rule, or drop the axis."
        )
    free = [axis for axis, size in sizes.items() if size == -1]
    if len(free) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
      raise UserError(f"sharding.mesh={self._said()}: sizes are positive, and at most one is -1.")
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if free:
      sizes[free[0]] = devices // fixed
    if math.prod(sizes.values()) != devices:
      raise UserError(
        f"sharding.mesh={self._said()} takes a multiple of {fixed} devices"
        f"{'' if free else ' exactly'}, but there {'is' if devices == 1 else 'are'} {devices}; "
        "choose sizes whose product is the number of devices."
      )
    return sizes

  def make_mesh(self, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over `devices` (all of them unless given); UserError when the sizes do not fit."""
    devices = list(jax.devices() if devices is None else devices)
    sizes = self.sizes(len(devices))
    # Auto: the compiler places what is between our constraints.
    return Mesh(
      arrange(sizes, self.slices, devices), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes)
    )

  def layout(self, mesh: Mesh | AbstractMesh) -> Layout:
    """The rules on a mesh."""
    rules = self.rules
    if TRIAL in self.mesh:
      rules = tuple(
        (letter, (TRIAL, *axes_of(axes)) if letter == "B" else axes) for letter, axes in rules
      )
    return Layout(mesh, rules, self.rounds, self.waves)

  def on(self, devices: int) -> Layout:
    """The rules on so many devices, none of which need be here."""
    sizes = self.sizes(devices)
    automatic = (AxisType.Auto,) * len(sizes)
    return self.layout(AbstractMesh(tuple(sizes.values()), tuple(sizes), axis_types=automatic))

  def _said(self) -> dict[str, int]:
    return {axis: size for axis, size in self.mesh.items() if size != 1} or dict(self.mesh)


def _check_sizes(path: str, sizes: Mapping[str, int], *, least: float = -math.inf) -> None:
  if not isinstance(sizes, Mapping):
    raise UserError(f"{path}={sizes!r} must be sizes by axis, such as {{'data': 2}}.")
  for axis, size in sizes.items():
    if not isinstance(size, numbers.Integral):
      raise UserError(f"{path}.{axis}={size!r} must be a whole number.")
    if size < least:
      raise UserError(f"{path}.{axis}={size} must be at least {least}.")


def _check_rules(rules: Rules) -> None:
  for rule in rules if isinstance(rules, tuple | list) else (rules,):
    pair = isinstance(rule, tuple | list) and len(rule) == 2
    if not pair or not isinstance(rule[1], str | tuple | list | None):
      raise UserError(
        f"sharding.rules: {rule!r} is no rule; write pairs of a letter and its axes, such as "
        "(('B', ('data', 'fsdp')), ('V', 'tensor'))."
      )


# One of each kind, in sizes that fit a host of eight; `sharding.mesh.tensor=8` changes them.
PRESETS: dict[str, Sharding] = {
  "dp": Sharding({"data": -1}),
  "fsdp": Sharding({"fsdp": -1}),
  "hsdp": Sharding({"data": 2, "fsdp": -1}),
  "tp": Sharding({"data": -1, "tensor": 2}),
  "fsdp_tp": Sharding({"fsdp": -1, "tensor": 2}),
  "context": Sharding({"fsdp": -1, "context": 2}),
  "pipeline": Sharding({"data": -1, "stage": 2}),
}


def _shared_out(sizes: Mapping[str, int], present: int) -> dict[str, int]:
  """How much of each axis lies across slices where nobody says it: the first take what they can."""
  slices, left = {}, present
  for axis, size in sizes.items():
    part = 1 if axis in NEAR else math.gcd(size, left)
    if part > 1:
      slices[axis] = part
    left //= part
  if left > 1:
    raise UserError(
      f"the devices come in {present} slices, and the mesh {dict(sizes)} has no axes for them "
      f"outside {' and '.join(NEAR)}, which would wait for the slower network in every layer; "
      f"choose sharding.mesh.data={present}, or name the axes in sharding.slices."
    )
  return slices


def arrange(
  sizes: Mapping[str, int], slices: Mapping[str, int], devices: Sequence[jax.Device]
) -> np.ndarray:
  """The devices as a grid whose axes have `sizes`, neighbours near one another on the network.

  Raises:
    UserError: `slices` are not those that the devices come in, or do not divide the axes.
  """
  present = len({getattr(device, "slice_index", 0) for device in devices})
  slices = slices or _shared_out(sizes, present)
  across = [slices.get(axis, 1) for axis in sizes]
  for axis, count in slices.items():
    if axis not in sizes or sizes[axis] % count:
      raise UserError(
        f"sharding.slices={dict(slices)}: {axis!r} has size {sizes.get(axis, 'none')} in the mesh, "
        f"which {count} slices do not divide; choose another axis or size."
      )
  if math.prod(across) != present:
    raise UserError(
      f"sharding.slices={dict(slices)} wants {math.prod(across)} slices, but the devices come in "
      f"{present}; give numbers whose product is {present}."
    )
  if present == 1:
    return mesh_utils.create_device_mesh(
      tuple(sizes.values()), devices, allow_split_physical_axes=True
    )
  within = [size // count for size, count in zip(sizes.values(), across)]
  return mesh_utils.create_hybrid_device_mesh(
    within, across, devices, allow_split_physical_axes=True
  )
