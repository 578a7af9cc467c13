"""Where arrays live: a mesh of devices, and an ordered table from einsum letters to mesh axes.

A model never mentions a device. Its arrays carry letters (`"BLD"`, `"DHK"`); the rules of the
experiment say which letters are split over which mesh axes. An earlier rule claims a mesh axis
first, and an array uses each axis once: with the default rules a batch of activations `BLD` is
split by B over data and fsdp, while a weight `DF` is split by D over fsdp and by F over tensor.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from research.errors import UserError, nearest

Rules = tuple[tuple[str, str | tuple[str, ...]], ...]

RULES: Rules = (
  ("B", ("data", "fsdp")),
  ("V", "tensor"),
  ("H", "tensor"),
  ("G", "tensor"),
  ("F", "tensor"),
  ("D", "fsdp"),
)


@dataclasses.dataclass(frozen=True)
class Sharding:
  """Mesh sizes by axis name (one may be -1: all devices that are left) and the letter rules."""

  mesh: Mapping[str, int] = dataclasses.field(
    default_factory=lambda: {"data": -1, "fsdp": 1, "tensor": 1}
  )
  rules: Rules = RULES

  def make_mesh(self, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over `devices` (all of them unless given); UserError when the sizes do not fit."""
    devices = list(jax.devices() if devices is None else devices)
    sizes = dict(self.mesh)
    for _, axes in self.rules:
      for axis in _axes(axes):
        if axis not in sizes:
          raise UserError(
            f"sharding.rules name the mesh axis {axis!r}, but sharding.mesh has "
            f"{', '.join(sizes)}.{nearest(axis, sizes)} Add {axis!r} to the mesh with size 1."
          )
    free = [axis for axis, size in sizes.items() if size == -1]
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if len(free) > 1 or fixed < 1 or any(size < 1 and size != -1 for size in sizes.values()):
      raise UserError(f"sharding.mesh={sizes}: sizes are positive, and at most one is -1.")
    if free:
      sizes[free[0]] = len(devices) // fixed
    if math.prod(sizes.values()) != len(devices):
      raise UserError(
        f"sharding.mesh={dict(self.mesh)} takes a multiple of {fixed} devices"
        f"{'' if free else ' exactly'}, but there are {len(devices)}; "
        "choose sizes whose product is the number of devices."
      )
    # Auto: the compiler places what is between our constraints. make_mesh defaults to Explicit.
    return jax.make_mesh(
      tuple(sizes.values()),
      tuple(sizes),
      axis_types=(AxisType.Auto,) * len(sizes),
      devices=devices,
    )


@dataclasses.dataclass(frozen=True)
class Layout:
  """A mesh together with the rules: it turns letters into shardings."""

  mesh: Mesh
  rules: Rules

  def spec(self, letters: str | Sequence[str], shape: Sequence[int]) -> PartitionSpec:
    """The partition of an array whose dimensions are named `letters` ('.' is never split).

    Raises:
      UserError: a split dimension does not divide; the message names the rule to drop.
    """
    axes_of: list[tuple[str, ...] | None] = [None] * len(letters)
    claimed: set[str] = set()
    for letter, axes in self.rules:
      for i, name in enumerate(letters):
        if name != letter or axes_of[i] is not None:
          continue
        wanted = tuple(a for a in _axes(axes) if a not in claimed and self.mesh.shape[a] > 1)
        parts = math.prod(self.mesh.shape[a] for a in wanted)
        if shape[i] % parts:
          raise UserError(
            f"dimension {letter}={shape[i]} of an array {''.join(letters)}{tuple(shape)} does not "
            f"divide by {parts} (mesh axes {', '.join(wanted)}); choose another size, or drop the "
            f"rule ({letter!r}, {axes!r}) from sharding.rules."
          )
        if wanted:
          axes_of[i] = wanted
          claimed.update(wanted)
    return PartitionSpec(*(a[0] if a and len(a) == 1 else a for a in axes_of))

  def sharding(self, letters: str | Sequence[str], shape: Sequence[int]) -> NamedSharding:
    """The same as a sharding on this mesh."""
    return NamedSharding(self.mesh, self.spec(letters, shape))

  @property
  def replicated(self) -> NamedSharding:
    return NamedSharding(self.mesh, PartitionSpec())


_active: contextvars.ContextVar[Layout | None] = contextvars.ContextVar("layout", default=None)


@contextlib.contextmanager
def use(layout: Layout) -> Iterator[Layout]:
  """Functions traced inside pin their activations by `layout` (see `constrain`)."""
  token = _active.set(layout)
  try:
    yield layout
  finally:
    _active.reset(token)


def constrain(x: jax.Array, letters: str) -> jax.Array:
  """Pins `x`, whose dimensions are named `letters`, to where the active layout wants it."""
  layout = _active.get()
  if layout is None or layout.mesh.size == 1:
    return x
  return jax.lax.with_sharding_constraint(x, layout.sharding(letters, x.shape))


def one_device() -> bool:
  """Whether what is traced now runs on one device, where custom kernels need no partitioning."""
  layout = _active.get()
  return jax.device_count() == 1 if layout is None else layout.mesh.size == 1


def _axes(axes: str | tuple[str, ...]) -> tuple[str, ...]:
  return (axes,) if isinstance(axes, str) else tuple(axes)
