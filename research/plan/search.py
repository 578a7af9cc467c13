"""Which mesh, remat policy and microbatches would be fastest in the memory that there is.

Every candidate is estimated in a millisecond from one trace; the best few are worth compiling. The
estimate ranks: it knows how many FLOPs and bytes a candidate has, and takes the rest alike.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import jax

from research import sharding
from research.errors import UserError
from research.experiment import Experiment
from research.plan import traffic
from research.plan.network import Network
from research.plan.topology import Topology
from research.plan.tracing import Tracing

ROOM = 0.95  # of the memory: an estimate that comes nearer may not fit
UTILIZATION = 0.75  # of the peak, with what is between the products
HIDDEN = 0.8  # of computation, beside which weights can be gathered
MICROBATCHES = (1, 2, 4, 8)
LARGEST_TENSOR = 16


@dataclasses.dataclass(frozen=True)
class Candidate:
  """One way to run an experiment.

  Attributes:
    mesh: sizes by axis.
    remat: the policy, or None where the model knows none.
    microbatches: of a batch.
    memory: bytes of a device that it is expected to need.
    step: seconds, estimated.
    exposed: of them, waiting for the network.
  """

  mesh: dict[str, int]
  remat: str | None
  microbatches: int
  memory: float
  step: float
  exposed: float

  def words(self, experiment: Experiment) -> list[str]:
    """What to add to the command line for it."""
    before = experiment.sharding.mesh
    words = [
      f"sharding.mesh.{axis}={size}" for axis, size in self.mesh.items() if before[axis] != size
    ]
    left = [axis for axis, size in before.items() if size == -1]
    if len(words) == 1 and left and words[0].startswith(f"sharding.mesh.{left[0]}="):
      words = []  # the same size, spelled out
    if self.remat is not None and self.remat != experiment.model.remat:
      words.append(f"model.remat={self.remat}")
    if self.microbatches != experiment.microbatches:
      words.append(f"microbatches={self.microbatches}")
    return words


class Search:
  """Candidates around one traced experiment."""

  def __init__(self, tracing: Tracing, topology: Topology):
    self.tracing, self.topology = tracing, topology
    self.experiment = tracing.experiment
    self.traced = tracing.result()
    self.own = Candidate(
      self.traced.mesh,
      self.traced.policy if len(self.traced.kept) > 1 else None,
      self.experiment.microbatches,
      self.traced.memory(self.traced.policy),
      *self._step(self.tracing.layout, self.traced.policy, self.experiment.microbatches),
    )

  def best(self) -> list[Candidate]:
    """All that fit, the fastest first."""
    found = self._estimates(self._meshes())
    return sorted(found, key=lambda candidate: (candidate.step, candidate.memory))

  def fixes(self) -> list[Candidate]:
    """Those that fit by one change, the fastest first; by more where one is not enough."""
    found = self.best()
    one = [c for c in found if len(self._changes(c)) == 1]
    return one or found

  def _changes(self, candidate: Candidate) -> list[str]:
    fields = ("mesh", "remat", "microbatches")
    return [f for f in fields if getattr(candidate, f) != getattr(self.own, f)]

  def _estimates(self, meshes: Iterable[dict[str, int]]) -> Iterator[Candidate]:
    limit = ROOM * self.topology.chip.memory
    for mesh in meshes:
      try:
        layout, specs = self._layout(mesh)
      except UserError:  # sizes that this mesh does not divide
        continue
      spread = layout.parts("B")
      for microbatches in MICROBATCHES:
        if self.experiment.batch_size % (spread * microbatches):
          continue
        for policy in self.traced.kept:
          memory = self._memory(layout, specs, policy, microbatches)
          if memory > limit:
            continue
          step, exposed = self._step(layout, policy, microbatches, specs)
          remat = policy if len(self.traced.kept) > 1 else None
          yield Candidate(mesh, remat, microbatches, memory, step, exposed)

  def _meshes(self) -> Iterator[dict[str, int]]:
    """All ways to share the devices between data, fsdp and tensor; other axes stay."""
    own = self.traced.mesh
    fixed = math.prod(size for axis, size in own.items() if axis not in ("data", "fsdp", "tensor"))
    free = self.topology.devices // fixed
    for data, tensor in itertools.product(_divisors(free), repeat=2):
      if free % (data * tensor) == 0 and tensor <= LARGEST_TENSOR:
        yield {**own, "data": data, "fsdp": free // (data * tensor), "tensor": tensor}

  def _layout(self, sizes: dict[str, int]) -> tuple[sharding.Layout, list[Any]]:
    layout = dataclasses.replace(self.experiment.sharding, mesh=sizes).on(self.topology.devices)
    return layout, [layout.spec(names, shape) for names, shape in self.tracing.boxes]

  def _memory(self, layout, specs, policy: str, microbatches: int) -> float:
    parameters = sum(
      math.prod(shape) / layout.shards(spec) for (_, shape), spec in zip(self.tracing.boxes, specs)
    )
    own = self.traced
    state = sum(own.state.values()) / own.state["parameters"]  # moments lie as their parameters
    grads = 1 if microbatches == 1 else 2
    pieces = microbatches / self.experiment.microbatches
    kept = self._kept(layout, policy)
    again = self._kept(layout, "none") - kept  # made again in the backward pass, a layer at a time
    traced = self.tracing.layout
    before = self._kept(traced, "none") - self._kept(traced, policy)
    passing = own.passing[policy] * again / max(1.0, before)
    return 4 * parameters * (state + grads) + (kept + passing) / pieces

  def _kept(self, layout: sharding.Layout, policy: str) -> float:
    """Bytes of one device for one microbatch of the traced size."""
    traced, parts = self.tracing.layout, self.tracing.parts
    return sum(
      b.bytes * parts(b.sizes, traced) / parts(b.sizes, layout) for b in self.traced.kept[policy]
    )

  def _step(self, layout, policy: str, microbatches: int, specs=None) -> tuple[float, float]:
    """Seconds of a step, and of waiting in it."""
    traced, chip = self.traced, self.topology.chip
    computed = traced.computed[policy] - traced.attention / 2
    compute = computed / (chip.flops(traffic.dtype(self.experiment.model)) * UTILIZATION)
    if specs is None:
      specs = [leaf.sharding.spec for leaf in jax.tree.leaves(self.tracing.state.params)]
    sends = self.tracing.traffic
    wire = sends.sent(layout, specs, policy=policy, microbatches=microbatches)
    tensor = sends.split_products(layout, policy)
    rows = tuple(axis for axis in layout.mesh.shape if axis in layout.of_activations)
    weights = self._seconds(layout, rows, "all-gather", wire.get("all-gather", 0.0))
    sums = self._seconds(
      layout,
      rows,
      "all-reduce",
      wire.get("all-reduce", 0.0) - tensor + wire.get("reduce-scatter", 0.0),
    )
    split = self._seconds(layout, ("tensor",), "all-reduce", tensor)
    exposed = max(0.0, weights - HIDDEN * compute) + sums + split
    return compute + exposed, exposed

  def _seconds(self, layout, axes: tuple[str, ...], kind: str, wire: float) -> float:
    if wire <= 0:
      return 0.0
    sizes = dict(layout.mesh.shape)
    net = network_of(self.topology, tuple(sizes.items()))
    devices, stride = [0], 1
    for axis, size in reversed(sizes.items()):
      if axis in axes:
        devices = [device + k * stride for device in devices for k in range(size)]
      stride *= size
    return net.seconds(kind, wire, tuple(devices))


@functools.cache
def network_of(topology: Topology, mesh: tuple[tuple[str, int], ...]) -> Network:
  """The devices in plain order: where the compiler would put them, more or less."""
  places = list(itertools.product(*map(range, topology.shape)))
  return Network(
    topology,
    dict(mesh),
    tuple(places * topology.slices),
    tuple(i for i in range(topology.slices) for _ in places),
  )


def _divisors(number: int) -> list[int]:
  return [n for n in range(1, number + 1) if number % n == 0]
