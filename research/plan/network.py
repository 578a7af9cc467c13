"""How fast the devices of a group can talk: rings on the torus, switches between hosts.

The model: a collective moves its bytes over all links of the torus axes that its group spans, both
ways where an axis closes to a ring. It knows nothing of contention between collectives beyond that
those on one axis wait for one another. Between slices, and between hosts of GPUs, every device has
its share of the network.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Sequence

from research.plan.topology import Topology

LATENCY = 1e-6  # seconds to start a collective

Lane = tuple[str | int, int]  # a torus axis or "network", and a direction


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
  """The devices of a mesh in the compiler's order, and where each stands.

  Attributes:
    topology: of the machine.
    mesh: sizes by axis name, in order; devices are numbered along it, the last axis fastest.
    coordinates: of each device in its slice, or (host, GPU).
    slices: which slice each device is in.
  """

  topology: Topology
  mesh: dict[str, int]
  coordinates: tuple[tuple[int, ...], ...]
  slices: tuple[int, ...]

  def axes(self, group: Sequence[int]) -> tuple[str, ...]:
    """The mesh axes along which a group of devices differs."""
    places = [self._place(device) for device in group]
    return tuple(
      axis for i, axis in enumerate(self.mesh) if len({place[i] for place in places}) > 1
    )

  def lanes(self, kind: str, group: tuple[int, ...]) -> tuple[Lane, ...]:
    """What a collective keeps busy; collectives with no lane in common run at once."""
    if len({self.slices[device] for device in group}) > 1:
      return (("network", 0),)
    if not self.topology.chip.dimensions:
      hosts = {self.coordinates[device][0] for device in group}
      return (("network", 0),) if len(hosts) > 1 else (("switch", 0),)
    axes = self._spanned(group)
    if kind == "collective-permute" and len(group) == 2 and len(axes) == 1:
      side = self.topology.shape[axes[0]]
      step = self._step(group, axes[0]) % side
      if step in (1, side - 1):
        return ((axes[0], 1 if step == 1 else -1),)
    return tuple((axis, way) for axis in axes for way in (1, -1)) or (("chip", 0),)

  def seconds(self, kind: str, wire: float, group: tuple[int, ...]) -> float:
    """How long a collective takes alone.

    Args:
      kind: as XLA calls it.
      wire: bytes that one device sends.
      group: the devices of one of its groups.
    """
    if len(group) < 2:
      return 0.0
    if kind in ("all-to-all", "ragged-all-to-all") and self.topology.chip.dimensions:
      # Over a ring of n a message goes n / 4 far on average, instead of one step.
      wire *= max(1.0, max(self._sides(group), default=1) / 4)
    return LATENCY + wire / self.bandwidth(kind, group)

  @functools.lru_cache(maxsize=4096)  # noqa: B019 (lives as long as the plan)
  def bandwidth(self, kind: str, group: tuple[int, ...]) -> float:
    """Bytes/s that one device sends, all links that its group uses together."""
    chip = self.topology.chip
    slices = {self.slices[device] for device in group}
    if len(slices) > 1:
      # The devices that a slice has in the group share what has to leave it.
      return chip.network * len(group) / len(slices)
    if not chip.dimensions:
      hosts = {self.coordinates[device][0] for device in group}
      return chip.network * len(group) / len(hosts) if len(hosts) > 1 else chip.link
    if kind == "collective-permute":
      return chip.link * len(self.lanes(kind, group))
    total = 0.0
    for axis in self._spanned(group):
      extent = len({self.coordinates[device][axis] for device in group})
      side = self.topology.shape[axis]
      closed = extent == side and side % chip.ring == 0
      total += chip.link * (2 if closed else 1)
    return total or 10 * chip.link  # within one chip

  def _spanned(self, group: Sequence[int]) -> list[int]:
    points = [self.coordinates[device] for device in group]
    return [axis for axis in range(len(points[0])) if len({point[axis] for point in points}) > 1]

  def _sides(self, group: Sequence[int]) -> list[int]:
    return [
      len({self.coordinates[device][axis] for device in group}) for axis in self._spanned(group)
    ]

  def _step(self, pair: Sequence[int], axis: int) -> int:
    return self.coordinates[pair[1]][axis] - self.coordinates[pair[0]][axis]

  def _place(self, device: int) -> list[int]:
    place = []
    for size in reversed(self.mesh.values()):
      place.append(device % size)
      device //= size
    return place[::-1]


def group(attributes: str) -> tuple[int, ...]:
  """The first of a collective's groups of devices, from any of the ways to print them."""
  found = re.search(r'_xla_megascale_target="\{([\d,]+)\}x\{0:(\d+)\}"', attributes)
  if found:  # one device of each slice
    return tuple(i * (int(found[2]) + 1) for i in range(len(found[1].split(","))))
  found = re.search(
    r"replica_groups=mesh\[([^\]]*)\](?:,\s*device_ids=\S*)? \{([^}]*)\}", attributes
  )
  if found:
    return _mesh_group(found[1], found[2])
  found = re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes)
  if found:
    return _iota_group(int(found[2]), found[3], found[4])
  found = re.search(r"replica_groups=\{\{([\d,]+)\}", attributes)
  if found:
    return tuple(int(device) for device in found[1].split(","))
  found = re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", attributes)
  return (int(found[1]), int(found[2])) if found else (0,)


def _mesh_group(mesh: str, used: str) -> tuple[int, ...]:
  """`'a'=4,'b'=2` and `'b'`, or `'a':(2)2`: the part of size 2 of `a` after 2 before it."""
  sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
  strides, stride = {}, 1
  for name, size in reversed(sizes.items()):
    strides[name] = stride
    stride *= size
  devices = [0]
  for name, before, part in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", used):
    size = int(part or sizes[name])
    step = strides[name] * (sizes[name] // (int(before or 1) * size))
    devices = [device + k * step for device in devices for k in range(size)]
  return tuple(devices)


def _iota_group(size: int, dimensions: str, permutation: str | None) -> tuple[int, ...]:
  """The first `size` of 0, 1, 2, ... laid out in `dimensions` and transposed."""
  sizes = [int(n) for n in dimensions.split(",")]
  order = [int(n) for n in permutation.split(",")] if permutation else list(range(len(sizes)))
  strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
  places = itertools.product(*(range(sizes[i]) for i in order))
  return tuple(
    sum(k * strides[i] for k, i in zip(place, order)) for place in itertools.islice(places, size)
  )
