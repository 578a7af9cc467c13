"""Where arrays live: an ordered table turns their einsum letters into partitions over a mesh.

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
from collections.abc import Iterator, Sequence

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from research.errors import UserError

Rules = tuple[tuple[str, str | tuple[str, ...]], ...]


@dataclasses.dataclass(frozen=True)
class Layout:
  """A mesh together with the rules: it turns letters into shardings.

  Attributes:
    mesh: devices that are here, or an abstract mesh of some that are not.
    rules: which letter is split over which axes, in order.
    rounds, waves: of a pipeline, see `mesh.Sharding`.
  """

  mesh: Mesh | AbstractMesh
  rules: Rules
  rounds: int = 1
  waves: int = 2

  def spec(self, letters: str | Sequence[str], shape: Sequence[int]) -> PartitionSpec:
    """The partition of an array whose dimensions are named `letters` ('.' is never split).

    Raises:
      UserError: a split dimension does not divide; the message names the rule to drop.
    """
    axes_at: list[str | tuple[str, ...] | None] = [None] * len(letters)
    claimed: set[str] = set()
    for letter, axes in self.rules:
      for i, name in enumerate(letters):
        if name != letter or axes_at[i] is not None:
          continue
        wanted = tuple(a for a in axes_of(axes) if a not in claimed and self.mesh.shape[a] > 1)
        parts = math.prod(self.mesh.shape[a] for a in wanted)
        if shape[i] % parts:
          raise UserError(
            f"dimension {letter}={shape[i]} of an array {''.join(letters)}{tuple(shape)} does not "
            f"divide by {parts} (mesh axes {', '.join(wanted)}); choose another size, or drop the "
            f"rule ({letter!r}, {axes!r}) from sharding.rules."
          )
        if wanted:
          axes_at[i] = wanted[0] if len(wanted) == 1 else wanted
          claimed.update(wanted)
    return PartitionSpec(*axes_at)

  def sharding(self, letters: str | Sequence[str], shape: Sequence[int]) -> NamedSharding:
    """The same as a sharding on this mesh."""
    return NamedSharding(self.mesh, self.spec(letters, shape))

  def gathered(self, letters: str | Sequence[str], shape: Sequence[int]) -> NamedSharding:
    """The sharding of a weight in use: whole over the axes that split activations by B or L."""
    kept = [
      tuple(axis for axis in axes_of(axes) if axis not in self.of_activations)
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
      for axis in axes_of(axes)
      if self.mesh.shape[axis] > 1
    )

  def size(self, axis: str) -> int:
    """Devices along an axis; 1 where the mesh has none of that name."""
    return self.mesh.shape.get(axis, 1)

  def shards(self, spec: PartitionSpec) -> int:
    """Into how many different parts an array of this partition is split."""
    return math.prod(self.size(axis) for axes in spec for axis in axes_of(axes))

  def parts(self, letter: str) -> int:
    """Into how many parts the rules split a dimension of this letter that stands first."""
    axes = [axis for name, axes in self.rules if name == letter for axis in axes_of(axes)]
    return math.prod(self.size(axis) for axis in axes)

  def without(self, axis: str) -> Layout:
    """This layout inside a computation that takes care of `axis` itself."""
    rules = tuple(
      (letter, tuple(a for a in axes_of(axes) if a != axis)) for letter, axes in self.rules
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


def axes_of(axes: str | tuple[str, ...] | None) -> tuple[str, ...]:
  """The mesh axes of a rule, or of one dimension of a partition, as a tuple."""
  return (axes,) if isinstance(axes, str) else tuple(axes or ())
