"""A ledger of what a program sends: each collective with its axis, its bytes, and its cause.

Sending is printed in many forms: plain, as a pair of start and done, or inside fusions that begin,
carry on and end it beside a computation. Each is counted once, where it starts.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from research.plan import count, network
from research.plan.hlo import Computation, Instruction, Module
from research.plan.network import Network

KINDS = (
  "all-gather",
  "all-reduce",
  "reduce-scatter",
  "all-to-all",
  "ragged-all-to-all",
  "collective-permute",
  "collective-broadcast",
)
# Where weights and activations are only handed on: the line that called these is the cause.
PLUMBING = (
  "site-packages/",
  "research/sharding.py",
  "research/nn/matmul.py",
  "research/train.py",
  "research/plan/",
  "<frozen",  # how Python starts a module
)

UNKNOWN = "the compiler"  # the cause of what has no line

Phase = Literal["whole", "start", "step", "done"]


class Sent(NamedTuple):
  """One collective operation: its kind, and the instruction with the computation that holds it."""

  kind: str
  computation: Computation
  instruction: Instruction

  @property
  def group(self) -> tuple[int, ...]:
    return network.group(self.instruction.attributes)

  @property
  def wire(self) -> float:
    """Bytes that one device sends, in rings (Thakur et al., 2005)."""
    taken = sum(made.bytes for made in self.computation.operands(self.instruction))
    n = len(self.group)
    if self.kind == "all-gather":
      return taken * (n - 1)
    if self.kind == "all-reduce":
      return 2 * taken * (n - 1) / n
    if self.kind in ("reduce-scatter", "all-to-all", "ragged-all-to-all"):
      return taken * (n - 1) / n
    if self.kind == "collective-permute":
      return self.computation.operands(self.instruction)[0].bytes
    return taken


@dataclasses.dataclass(frozen=True)
class Entry:
  """Collectives of one cause, all their runs in a step together.

  Attributes:
    kind: as XLA calls it.
    axes: mesh axes over which it goes.
    asynchronous: whether it can run beside computation.
    line: of source, file:line.
    scope: modules that it belongs to; "backward " in front in the backward pass.
    count: how often in a step.
    wire: bytes that one device sends in a step.
    seconds: all of them alone, one after the other.
  """

  kind: str
  axes: tuple[str, ...]
  asynchronous: bool
  line: str
  scope: str
  count: int
  wire: float
  seconds: float


def ledger(module: Module, net: Network) -> list[Entry]:
  """What a step sends, the most first."""
  entries: dict[tuple, Entry] = {}
  for computation, instruction, times in scheduled(module, module.entry):
    phase, sent = role(module, computation, instruction)
    if phase not in ("whole", "start"):
      continue
    for item in sent:
      group = item.group
      if len(group) < 2:
        continue
      key = (
        item.kind,
        net.axes(group),
        phase == "start",
        cause(module, item.instruction),
        scope(item.instruction.scope),
      )
      old = entries.get(key) or Entry(*key, count=0, wire=0.0, seconds=0.0)
      entries[key] = dataclasses.replace(
        old,
        count=old.count + times,
        wire=old.wire + times * item.wire,
        seconds=old.seconds + times * net.seconds(item.kind, item.wire, group),
      )
  return sorted(entries.values(), key=lambda entry: -entry.wire)


def totals(entries: list[Entry]) -> dict[str, dict[str, float]]:
  """By kind: count, wire bytes, the part of them that is asynchronous, seconds."""
  sums: dict[str, dict[str, float]] = {}
  for entry in entries:
    total = sums.setdefault(
      entry.kind, {"count": 0, "wire": 0.0, "asynchronous": 0.0, "seconds": 0.0}
    )
    total["count"] += entry.count
    total["wire"] += entry.wire
    total["asynchronous"] += entry.wire * entry.asynchronous
    total["seconds"] += entry.seconds
  return sums


def scheduled(
  module: Module, computation: Computation, times: int = 1
) -> Iterator[tuple[Computation, Instruction, int]]:
  """Every instruction that is run by itself, loops and calls entered, with its runs in a step."""
  for made in computation.instructions:
    if made.opcode == "while":
      body = module.computations[made.attribute("body")]
      yield from scheduled(module, body, times * count.trips(module, computation, made))
    elif made.opcode == "call":
      yield from scheduled(module, module.called(made), times)
    elif made.opcode == "conditional":
      for branch in module.branches(made):
        yield from scheduled(module, branch, times)
    else:
      yield computation, made, times


def role(
  module: Module, computation: Computation, made: Instruction
) -> tuple[Phase | None, list[Sent]]:
  """What a scheduled instruction has to do with sending, and what it sends."""
  kind, _, phase = made.opcode.rpartition("-")
  if made.opcode in KINDS:
    return "whole", [Sent(made.opcode, computation, made)]
  if kind in KINDS and phase == "start":
    return "start", [Sent(kind, computation, made)]
  if kind in KINDS and phase == "done":
    return "done", []
  across = re.search(r'_xla_megascale_transfer_type="(\w+)"', made.attributes)
  if across and made.opcode == "send":  # to other slices, by way of the hosts
    return "start", [Sent(across[1].lower().replace("_", "-"), computation, made)]
  if made.opcode == "send-done":
    return "done", []
  if made.opcode in ("async-start", "async-update", "async-done"):
    inner = module.called(made)
    sent = list(_inside(module, inner)) if inner else []
    phases = {"async-start": "start", "async-update": "step", "async-done": "done"}
    return (phases[made.opcode], sent) if sent or not inner else (None, [])
  if made.opcode == "fusion":
    inner = module.called(made)
    sent = list(_inside(module, inner))
    targets = {i.target for i in inner.instructions if i.opcode == "custom-call"}
    if "AsyncCollectiveStart" in targets:
      return "start", sent
    if "AsyncCollectiveDone" in targets:
      return "done", []
    if sent and inner.name.startswith("async_collective"):
      return "step", []
    if sent:
      scattered = "scatter" in inner.name or "scatter" in made.name
      return "whole", [_scattered(item) if scattered else item for item in sent]
  return None, []


def cause(module: Module, made: Instruction) -> str:
  """The innermost line that is neither a library's nor plumbing: where to look for the reason."""
  locations = list(module.trace(made))
  for location in locations:
    if not any(part in location.file for part in PLUMBING):
      return short(str(location))
  return short(str(locations[0])) if locations else UNKNOWN


def scope(name: str) -> str:
  """Of `jit(f)/transpose(jvp(GPT))/.../attention/query/dot_general`, "backward attention/query"."""
  backward, name = "transpose(" in name, name.split(":")[0]  # the first of several made one
  skipped = ("while", "body", "closed_call", "checkpoint", "rematted_computation", "cond")
  parts = []
  for part in name.split("/"):
    inner = part.replace(")", "").rsplit("(", 1)[-1] if "(" in part else part
    plain = inner and inner not in skipped and not part.startswith("jit(") and "._" not in inner
    if plain and inner not in parts:
      parts.append(inner)
  if len(parts) > 1:
    parts.pop()  # the operation, which the line says
  return ("backward " if backward else "") + "/".join(parts[-3:])


def _inside(module: Module, computation: Computation) -> Iterator[Sent]:
  for made in computation.instructions:
    kind = made.opcode.removesuffix("-start")
    if kind in KINDS:
      yield Sent(kind, computation, made)
    elif made.opcode in ("fusion", "call") and (inner := module.called(made)):
      yield from _inside(module, inner)


def _scattered(item: Sent) -> Sent:
  """The TPU compiler fuses an all-reduce with the slice that follows: a reduce-scatter."""
  return item._replace(kind="reduce-scatter") if item.kind == "all-reduce" else item


def short(location: str) -> str:
  """From the package or the last folder on."""
  for mark in ("/site-packages/", "/research/"):
    head, found, tail = location.rpartition(mark)
    if found and head:
      return tail if mark == "/site-packages/" else f"research/{tail}"
  return "/".join(location.split("/")[-2:])
