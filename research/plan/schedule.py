"""How long a step takes, as far as a compiled program tells: its schedule, run on paper.

The compiler's instructions stand in the order in which they run. Computation takes what the TPU
compiler expects, in cycles; sending goes over the links beside it, and computation waits only
where the program does. Two readings bound the step: `cycles`, the compiler's own, which was never
optimistic where it could be compared with published runs; and products at 88 % of the peak, which
came out nearer. Absolute times are good to about 20 %; comparisons on one compiler are better.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict

from research.plan import collectives, count
from research.plan.hlo import Computation, Instruction, Module
from research.plan.network import Lane, Network
from research.plan.topology import Chip

EFFICIENCY = 0.88  # of the peak, that products reach in the optimistic reading
KERNEL = 0.45  # of the peak, in attention kernels, of which the compiler expects nothing
GPU = (0.75, 0.55)  # of the peak, for products of a compiler that gives no cycles at all

_PRODUCTS = {"fwd": 2, "dkv": 4, "dq": 3, "bwd": 5}  # of an attention kernel, by its name
_FREE = frozenset({
  "parameter", "constant", "get-tuple-element", "tuple", "bitcast", "iota", "partition-id",
  "replica-id", "after-all", "add-dependency", "optimization-barrier", "opt-barrier",
  "copy-start", "copy-done", "slice-start", "slice-done", "dynamic-slice-start",
  "dynamic-slice-done", "recv", "recv-done",
})  # fmt: skip


@dataclasses.dataclass
class Lap:
  """What a part of the schedule has come to.

  Attributes:
    time: seconds since it began.
    products, kernels, other: of computing, by what is computed.
    exposed: of waiting for what is sent.
    flops: done, kernels included.
    busy: until when each lane of the network is.
  """

  time: float = 0.0
  products: float = 0.0
  kernels: float = 0.0
  other: float = 0.0
  exposed: float = 0.0
  flops: float = 0.0
  busy: dict[Lane, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Schedule:
  """A step by one reading, in seconds; FLOPs are of one device.

  Attributes:
    waits: the longest waits for the network by line of source.
    slow: products far below the peak: (line, scope, seconds, share of the peak).
  """

  step: float
  products: float
  kernels: float
  other: float
  exposed: float
  flops: float
  waits: dict[str, float]
  slow: list[tuple[str, str, float, float]]


class Simulation:
  """One walk through a schedule."""

  def __init__(self, module: Module, net: Network, efficiency: float | None):
    """`efficiency` of products, or None for the compiler's cycles."""
    self.module, self.net, self.efficiency = module, net, efficiency
    self.chip: Chip = net.topology.chip
    self.waits: dict[str, float] = defaultdict(float)
    self.slow: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])

  def run(self) -> Schedule:
    lap = Lap()
    self._walk(self.module.entry, lap, 1)
    slow = [
      (line, scope, seconds, at_peak / seconds)
      for (line, scope), (seconds, at_peak) in self.slow.items()
      if seconds
    ]
    return Schedule(
      step=lap.time,
      products=lap.products,
      kernels=lap.kernels,
      other=lap.other,
      exposed=lap.exposed,
      flops=lap.flops,
      waits=dict(sorted(self.waits.items(), key=lambda item: -item[1])),
      slow=sorted(slow, key=lambda item: -item[2] * (1 - item[3])),
    )

  def _walk(self, computation: Computation, lap: Lap, times: int) -> None:
    ends: dict[str, tuple[float, str]] = {}  # of what was started and not awaited yet
    for made in computation.instructions:
      phase, sent = collectives.role(self.module, computation, made)
      if made.opcode in _FREE or (made.opcode == "send" and not phase):
        continue
      if made.opcode == "while":
        self._loop(computation, made, lap, times)
        continue
      if made.opcode == "call":
        self._walk(self.module.called(made), lap, times)
        continue
      if made.opcode == "conditional":
        branches = self.module.branches(made)
        longest = max(branches, key=lambda b: sum(f for f, _ in count.products(self.module, b)))
        self._walk(longest, lap, times)
        continue
      if phase in ("whole", "start"):
        end = self._send(lap, sent)
        line = collectives.cause(self.module, sent[0].instruction) if sent else ""
        if phase == "whole":
          self._wait(lap, end, line, times)
        else:
          ends[made.name] = end, line
      elif phase == "done":
        started = _started(computation, made, ends)
        if started:
          self._wait(lap, *ends.pop(started), times)
      else:  # also a fusion that carries a collective on: it computes meanwhile
        self._compute(computation, made, lap, times)

  def _loop(self, computation: Computation, made: Instruction, lap: Lap, times: int) -> None:
    """One turn is simulated, and counted as often as the loop runs."""
    n = count.trips(self.module, computation, made)
    turn = Lap(time=lap.time, busy=dict(lap.busy))
    self._walk(self.module.computations[made.attribute("body")], turn, times * n)
    once = turn.time - lap.time
    lap.time += n * once
    for field in ("products", "kernels", "other", "exposed", "flops"):
      setattr(lap, field, getattr(lap, field) + n * getattr(turn, field))
    lap.busy = {lane: lap.time + max(0.0, end - turn.time) for lane, end in turn.busy.items()}

  def _send(self, lap: Lap, sent: list[collectives.Sent]) -> float:
    """Takes the lanes as soon as they are free; returns when it is done."""
    lanes = {lane for item in sent for lane in self.net.lanes(item.kind, item.group)}
    seconds = sum(self.net.seconds(item.kind, item.wire, item.group) for item in sent)
    end = max([lap.time, *(lap.busy.get(lane, 0.0) for lane in lanes)]) + seconds
    lap.busy.update(dict.fromkeys(lanes, end))
    return end

  def _wait(self, lap: Lap, end: float, line: str, times: int) -> None:
    if end > lap.time:
      self.waits[line] += times * (end - lap.time)
      lap.exposed += end - lap.time
      lap.time = end

  def _compute(self, computation: Computation, made: Instruction, lap: Lap, times: int) -> None:
    found = list(count.products_of(self.module, computation, made))
    flops = sum(f for f, _ in found)
    at_peak = sum(f / self.chip.flops(_dtype(dtype)) for f, dtype in found)
    if made.opcode == "custom-call" and not found:
      flops = kernel_flops(computation, made)
      if flops is None:
        return  # takes no time: an allocation, a hint
      seconds = flops / self.chip.flops("bfloat16") / KERNEL
      lap.kernels += seconds
    elif found:
      seconds = self._product_seconds(made, at_peak)
      lap.products += seconds
      key = collectives.cause(self.module, made), collectives.scope(made.scope)
      self.slow[key][0] += times * seconds
      self.slow[key][1] += times * at_peak
    else:
      cycles = made.cycles if self.chip.clock else None
      touched = _touched(computation, made)
      seconds = cycles / self.chip.clock if cycles else touched / self.chip.bandwidth
      lap.other += seconds
    lap.flops += flops
    lap.time += seconds

  def _product_seconds(self, made: Instruction, at_peak: float) -> float:
    if self.efficiency is None and made.cycles and self.chip.clock:
      return max(at_peak, made.cycles / self.chip.clock)
    return at_peak / (self.efficiency or EFFICIENCY)


def interval(module: Module, net: Network) -> tuple[Schedule, Schedule]:
  """A step by the two readings: the faster, the slower."""
  readings = (EFFICIENCY, None) if net.topology.chip.clock else GPU
  made = [Simulation(module, net, reading).run() for reading in readings]
  fast, slow = sorted(made, key=lambda schedule: schedule.step)
  return fast, slow


def kernel_flops(computation: Computation, made: Instruction) -> float | None:
  """Of an attention kernel: products of (L, K) by (K, M), of which a causal mask leaves half.

  Such a kernel is opaque to the compiler; what it does is told by its name and its largest operand,
  the queries (..., L, K). None for a custom call that computes nothing.
  """
  if made.target not in ("tpu_custom_call", "__gpu$xla.gpu.triton") and "fmha" not in made.target:
    return None
  taken = [a for i in computation.operands(made) for a in i.arrays if len(a.sizes) >= 3]
  if not taken:
    return 0.0
  queries = max(taken, key=lambda array: array.size)
  length, size = queries.sizes[-2:]
  products = next((n for part, n in _PRODUCTS.items() if part in made.name), 2)
  return products * 2.0 * (queries.size // size) * length * size / 2


def _started(computation: Computation, done: Instruction, ends: dict) -> str | None:
  """The start that a done belongs to, found through the fusions that carried it on."""
  todo, seen = list(done.operands), set()
  while todo:
    name = todo.pop()
    if name in ends:
      return name
    if name in seen or name not in computation.named:
      continue
    seen.add(name)
    made = computation.named[name]
    carried = made.opcode in ("get-tuple-element", "bitcast", "async-update", "tuple")
    if carried or (made.opcode == "fusion" and "async_collective" in made.attributes):
      todo += made.operands
  return None


def _touched(computation: Computation, made: Instruction) -> int:
  """Bytes of memory read and written, updates in place not counted as copies of the whole."""
  sizes = [sum(a.bytes for a in i.arrays if a.in_memory) for i in computation.operands(made)]
  sizes.append(sum(a.bytes for a in made.arrays if a.in_memory))
  if re.search(r"dynamic[-_](update[-_])?slice", made.name + made.scope):
    return 2 * sum(sorted(sizes)[:-2]) if len(sizes) > 2 else min(sizes)
  return sum(sizes)


def _dtype(name: str) -> str:
  return {"bf16": "bfloat16", "f16": "float16"}.get(name, "float32")
