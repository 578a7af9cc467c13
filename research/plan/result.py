"""A plan: what was found out about an experiment on a machine, in one value."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from research.plan import buffers, collectives, schedule
from research.plan.collectives import Entry
from research.plan.compiler import Compiled
from research.plan.schedule import Schedule
from research.plan.search import Candidate
from research.plan.topology import Topology
from research.plan.trace import Buffer, Trace

MOST_BUFFERS = 10


@dataclasses.dataclass(frozen=True)
class Plan:
  """One experiment on one topology.

  Attributes:
    name: of the experiment.
    topology: the machine.
    traced: what its shapes say.
    compiled: what the compiler says, or None where it was not asked.
    tokens: the budget; None for what the experiment's steps come to.
    steps: of the experiment.
    price: dollars for a device and hour.
    fixes: ways to make it fit, for one that does not.
    best: what a search found, the fastest first.
    words: of each of `fixes` or `best`, what to add to the command line.
  """

  name: str
  topology: Topology
  traced: Trace
  compiled: Compiled | None
  tokens: float | None
  steps: int
  price: float
  fixes: Sequence[Candidate] = ()
  best: Sequence[Candidate] = ()
  words: Mapping[int, Sequence[str]] = dataclasses.field(default_factory=dict)

  @property
  def needed(self) -> float:
    """Bytes of memory that a device needs: as compiled, else as estimated."""
    if self.compiled is None:
      return self.traced.memory(self.traced.policy)
    return self.compiled.needed

  @property
  def fits(self) -> bool:
    if self.compiled is None:
      return self.needed <= self.topology.chip.memory
    return self.compiled.fits

  @property
  def measured(self) -> bool:
    """Whether there is a program to read."""
    return self.compiled is not None and self.compiled.module is not None

  @functools.cached_property
  def entries(self) -> list[Entry]:
    return collectives.ledger(self.compiled.module, self.compiled.network) if self.measured else []

  @functools.cached_property
  def schedules(self) -> tuple[Schedule, Schedule] | None:
    """By the two readings, the faster first."""
    if not self.measured:
      return None
    return schedule.interval(self.compiled.module, self.compiled.network)

  @functools.cached_property
  def largest(self) -> list[Buffer]:
    """What takes most memory: in the program, or where none was made, in the trace."""
    if not self.measured:
      return self.traced.buffers()[:MOST_BUFFERS]
    return buffers.largest(self.compiled.module, MOST_BUFFERS)

  @property
  def peak_seconds(self) -> float:
    """What the model's FLOPs take at the chip's peak: no step can be shorter."""
    return self.traced.causal_flops / self.topology.chip.flops("bfloat16")

  def utilization(self, seconds: float) -> tuple[float, float]:
    """Model FLOPs utilization of a step: causal attention counted half, and in full."""
    at_peak = self.topology.chip.flops("bfloat16") * seconds
    return self.traced.causal_flops / at_peak, self.traced.flops / at_peak

  def hours(self, seconds: float) -> float:
    """Chip-hours of the whole budget."""
    budget = self.tokens or self.steps * self.traced.tokens
    return budget / self.traced.tokens * seconds * self.topology.devices / 3600

  def as_json(self) -> dict[str, Any]:
    """Everything, for programs."""
    traced = self.traced
    record: dict[str, Any] = {
      "experiment": self.name,
      "topology": str(self.topology),
      "devices": self.topology.devices,
      "mesh": traced.mesh,
      "parameters": traced.parameters,
      "tokens_per_step": traced.tokens,
      "fits": self.fits,
      "memory": {
        "needed": self.needed if math.isfinite(self.needed) else None,
        "available": self.topology.chip.memory,
        "state": traced.state,
        "estimated_by_remat": {policy: traced.memory(policy) for policy in traced.kept},
        "largest": [
          {"bytes": b.bytes, "what": b.what, "line": b.line} for b in self.largest
        ],
      },
      "flops": {
        "model": traced.flops,
        "model_causal": traced.causal_flops,
        "expected_by_remat": traced.computed,
      },
      "expected_wire": traced.wire,
      "search": [
        {**dataclasses.asdict(c), "words": list(self.words.get(i, ()))}
        for i, c in enumerate(self.best or self.fixes)
      ],
    }  # fmt: skip
    if self.compiled is not None:
      facts = self.compiled.facts
      record["compiler"] = {
        key: value for key, value in facts.items() if key not in ("coordinates", "slices")
      }
    if self.schedules:
      fast, slow = self.schedules
      record["flops"]["compiled"] = slow.flops
      record["collectives"] = collectives.totals(self.entries)
      record["ledger"] = [dataclasses.asdict(entry) for entry in self.entries]
      record["step"] = {"fast": _seconds(fast), "slow": _seconds(slow)}
      record["budget"] = {
        "tokens": self.tokens or self.steps * traced.tokens,
        "chip_hours": [self.hours(fast.step), self.hours(slow.step)],
        "dollars": [self.hours(s.step) * self.price for s in (fast, slow)],
      }
    return record


def _seconds(made: Schedule) -> dict[str, float]:
  return {
    field: getattr(made, field) for field in ("step", "products", "kernels", "other", "exposed")
  }
