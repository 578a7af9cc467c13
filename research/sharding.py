"""Where arrays live: a mesh of devices, and an ordered table from einsum letters to mesh axes.

A model never mentions a device. Its arrays carry letters (`"BLD"`, `"DHK"`); the rules of the
experiment say which letters are split over which mesh axes. An earlier rule claims a mesh axis
first, and an array uses each axis once: with the default rules a batch of activations `BLD` is
split by B over data and fsdp, while a weight `DF` is split by D over fsdp and by F over tensor.

A weight that is split over axes which also split the batch is gathered where it is used, in the
dtype of the product, and its gradient is summed back into the shards (`gather`): FSDP, ZeRO-3.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from research.errors import UserError, nearest

Rules = tuple[tuple[str, str | tuple[str, ...]], ...]

# From the axis that talks least to the one that talks most: neighbours on the network come last.
AXES = ("stage", "data", "fsdp", "context", "tensor")

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
      not named have size 1; others may be added, with rules that use them.
    rules: which letter is split over which axes, in order.
    slices: how much of an axis lies across slices, which are joined by a slower network, for
      example {"data": 2}. Where devices come in slices and nothing is said, the first axis whose
      size their number divides is meant.
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
    object.__setattr__(self, "mesh", {**dict.fromkeys(AXES, 1), **self.mesh})
    for field in ("rounds", "waves"):
      if getattr(self, field) < 1:
        raise UserError(f"sharding.{field}={getattr(self, field)} must be at least 1.")

  @classmethod
  def parse(cls, text: str) -> Sharding:
    """A preset's name, or sizes as in "fsdp=4,tensor=2"."""
    if text in PRESETS:
      return PRESETS[text]
    sizes = {}
    for word in text.split(","):
      axis, _, size = word.partition("=")
      if axis not in AXES or not size.lstrip("-").isdigit():
        known = ", ".join(PRESETS)
        raise UserError(
          f"{text!r} is neither a mesh nor one of {known}.{nearest(axis, [*PRESETS, *AXES])} "
          f"Write sizes as in fsdp=4,tensor=2, of the axes {', '.join(AXES)}."
        )
      sizes[axis] = int(size)
    return cls(sizes)

  def sizes(self, devices: int) -> dict[str, int]:
    """Every axis with its size on so many devices; UserError when they do not fit."""
    sizes = dict(self.mesh)
    for _, axes in self.rules:
      for axis in _axes(axes):
        if axis not in sizes:
          raise UserError(
            f"sharding.rules name the mesh axis {axis!r}, but sharding.mesh has "
            f"{', '.join(sizes)}.{nearest(axis, sizes)} Add {axis!r} to the mesh with size 1."
          )
    used = {axis for _, axes in self.rules for axis in _axes(axes)}
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

  def layout(self, mesh: Mesh) -> Layout:
    """The rules on a mesh."""
    return Layout(mesh, self.rules, self.rounds, self.waves)

  def _said(self) -> dict[str, int]:
    return {axis: size for axis, size in self.mesh.items() if size != 1} or dict(self.mesh)


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


def arrange(
  sizes: Mapping[str, int], slices: Mapping[str, int], devices: Sequence[jax.Device]
) -> np.ndarray:
  """The devices as a grid whose axes have `sizes`, neighbours near one another on the network.

  Raises:
    UserError: `slices` are not those that the devices come in, or do not divide the axes.
  """
  present = len({getattr(device, "slice_index", 0) for device in devices})
  if not slices and present > 1:
    fitting = [axis for axis, size in sizes.items() if size % present == 0]
    if not fitting:
      raise UserError(
        f"the devices come in {present} slices, and no axis of the mesh {dict(sizes)} divides by "
        f"that; choose sharding.mesh.data={present}."
      )
    slices = {fitting[0]: present}
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


@dataclasses.dataclass(frozen=True)
class Layout:
  """A mesh together with the rules: it turns letters into shardings."""

  mesh: Mesh
  rules: Rules
  rounds: int = 1
  waves: int = 2

  def spec(self, letters: str | Sequence[str], shape: Sequence[int]) -> PartitionSpec:
    """The partition of an array whose dimensions are named `letters` ('.' is never split).

    Raises:
      UserError: a split dimension does not divide; the message names the rule to drop.
    """
    return PartitionSpec(*(axes for _, axes in self.matches(letters, shape)))

  def matches(
    self, letters: str | Sequence[str], shape: Sequence[int]
  ) -> list[tuple[str | None, str | tuple[str, ...] | None]]:
    """For each dimension, the letter of the rule that splits it and the axes; None where whole."""
    matched: list[tuple[str | None, str | tuple[str, ...] | None]] = [(None, None)] * len(letters)
    claimed: set[str] = set()
    for letter, axes in self.rules:
      for i, name in enumerate(letters):
        if name != letter or matched[i][0] is not None:
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
          matched[i] = (letter, wanted[0] if len(wanted) == 1 else wanted)
          claimed.update(wanted)
    return matched

  def sharding(self, letters: str | Sequence[str], shape: Sequence[int]) -> NamedSharding:
    """The same as a sharding on this mesh."""
    return NamedSharding(self.mesh, self.spec(letters, shape))

  def gathered(self, letters: str | Sequence[str], shape: Sequence[int]) -> NamedSharding:
    """The sharding of a weight in use: whole over the axes that split activations by B or L."""
    kept = [
      tuple(axis for axis in _axes(axes or ()) if axis not in self.of_activations)
      for axes in self.spec(letters, shape)
    ]
    return NamedSharding(self.mesh, PartitionSpec(*(axes or None for axes in kept)))

  @functools.cached_property
  def of_activations(self) -> frozenset[str]:
    """The mesh axes over which rows and positions of a batch are split."""
    return frozenset(
      axis
      for letter, axes in self.rules
      if letter in ("B", "L")
      for axis in _axes(axes)
      if self.mesh.shape[axis] > 1
    )

  def size(self, axis: str) -> int:
    """Devices along an axis; 1 where the mesh has none of that name."""
    return self.mesh.shape.get(axis, 1)

  def parts(self, letter: str) -> int:
    """Into how many parts the rules split a dimension of this letter that stands first."""
    axes = [axis for name, axes in self.rules if name == letter for axis in _axes(axes)]
    return math.prod(self.size(axis) for axis in axes)

  def without(self, axis: str) -> Layout:
    """This layout inside a computation that takes care of `axis` itself."""
    rules = tuple(
      (letter, tuple(a for a in _axes(axes) if a != axis)) for letter, axes in self.rules
    )
    return dataclasses.replace(self, rules=rules)

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


def active() -> Layout | None:
  """The layout in force; None where nothing is split."""
  layout = _active.get()
  return None if layout is None or layout.mesh.size == 1 else layout


def constrain(x: jax.Array, letters: str) -> jax.Array:
  """Pins `x`, whose dimensions are named `letters`, to where the active layout wants it."""
  layout = active()
  if layout is None:
    return x
  return jax.lax.with_sharding_constraint(x, layout.sharding(letters, x.shape))


GATHERED = "gathered"  # what the backward pass gathers again rather than keeps


def gather(w: jax.Array, letters: str, dtype: jax.typing.DTypeLike) -> jax.Array:
  """A weight as a product with activations wants it, or `w` itself where that is how it lies.

  The shards are cast to `dtype` before they travel, and so does the gradient on its way back. The
  transpose of a plain constraint would be the same constraint, and make every device hold the
  whole gradient; here it is constrained to the shards, which lets the compiler scatter the sums.
  """
  layout = active()
  if layout is None:
    return w
  split, whole = layout.sharding(letters, w.shape), layout.gathered(letters, w.shape)
  if split.is_equivalent_to(whole, w.ndim):
    return w
  return checkpoint_name(_gather(w.astype(dtype), split, whole), GATHERED)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(w: jax.Array, split: NamedSharding, whole: NamedSharding) -> jax.Array:
  return jax.lax.with_sharding_constraint(jax.lax.with_sharding_constraint(w, split), whole)


def _gather_forward(w, split, whole):
  return _gather(w, split, whole), None


def _gather_backward(split, whole, _, gradient):
  return (jax.lax.with_sharding_constraint(gradient, split),)


_gather.defvjp(_gather_forward, _gather_backward)


def one_device() -> bool:
  """Whether what is traced now runs on one device, where custom kernels need no partitioning."""
  layout = _active.get()
  return jax.device_count() == 1 if layout is None else layout.mesh.size == 1


def _axes(axes: str | tuple[str, ...]) -> tuple[str, ...]:
  return (axes,) if isinstance(axes, str) else tuple(axes)
