"""A plan as lines for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from research.plan import collectives
from research.plan.figures import gb, gib, short, tera
from research.plan.findings import findings
from research.plan.result import Plan

ROWS = 8  # of a table


def lines(plan: Plan) -> Iterator[str]:
  """The whole plan, the verdict first."""
  yield f"{plan.name} on {plan.topology}: {verdict(plan)}"
  traced = plan.traced
  mesh = (
    " ".join(f"{axis}={size}" for axis, size in traced.mesh.items() if size > 1) or "one device"
  )
  yield (
    f"{plan.topology.devices} devices, {mesh}; {traced.parameters:,} parameters, "
    f"{traced.tokens:,} tokens a step"
  )
  yield ""
  yield from table(["bytes of a device", "GiB"], [[k, gib(v)] for k, v in memory(plan)])
  if len(traced.kept) > 1:
    yield ""
    rows = [
      [
        f"{policy}{' *' if policy == traced.policy else ''}",
        gib(traced.memory(policy)),
        tera(traced.computed[policy]),
      ]
      for policy in traced.kept
    ]
    yield from table(["remat (estimated)", "GiB", "TFLOP a step"], rows)
  if plan.entries:
    yield ""
    totals = [
      [kind, f"{t['count']:.0f}", gb(t["wire"]), gb(t["asynchronous"]), short(t["seconds"])]
      for kind, t in collectives.totals(plan.entries).items()
    ]
    yield from table(["sent by a device and step", "times", "GB", "async", "s alone"], totals)
    yield ""
    yield from table(LEDGER, [ledger_row(entry) for entry in plan.entries[:ROWS]])
  if plan.schedules:
    yield ""
    yield from table(["seconds", *READINGS[bool(plan.topology.chip.clock)]], step_rows(plan))
  yield ""
  yield "largest in memory:"
  yield from table(BUFFERS, buffer_rows(plan))
  if not plan.fits and plan.fixes:
    yield ""
    yield "cheapest ways to make it fit (estimated):"
    yield from table(SEARCHED, search_rows(plan, plan.fixes))
  if plan.best:
    yield ""
    yield "fastest that fit (estimated); add the words to the command line:"
    yield from table(SEARCHED, search_rows(plan, plan.best))
  said = findings(plan)
  if said:
    yield ""
    yield from (f"- {sentence}" for sentence in said)


LEDGER = ["line", "kind", "over", "async", "times", "GB", "of"]
BUFFERS = ["line", "GiB", "what"]
SEARCHED = ["step s", "waiting s", "GiB", "words"]
READINGS = {True: ("products at 88 %", "compiler's cycles"), False: ("at 75 %", "at 55 %")}


def verdict(plan: Plan) -> str:
  """One line: whether it fits, and how fast it can go."""
  available = plan.topology.chip.memory
  how = "needs" if plan.compiled else "is estimated to need"
  if plan.needed == math.inf:
    return "does not fit: the compiler refused it, and does not say what it needs"
  room = f"{how} {gib(plan.needed)} of {gib(available)} GiB"
  if not plan.fits:
    return f"does not fit: {room}, {gib(plan.needed - available)} too much"
  if not plan.schedules:
    return f"fits: {room}"
  fast, slow = plan.schedules
  return (
    f"fits: {room}; {short(fast.step)} to {short(slow.step)} s a step, "
    f"MFU {plan.utilization(slow.step)[0]:.0%} to {plan.utilization(fast.step)[0]:.0%}"
  )


def memory(plan: Plan) -> list[tuple[str, float]]:
  """Bytes of a device by kind."""
  rows = [(f"state: {kind}", size) for kind, size in plan.traced.state.items()]
  if plan.compiled and "memory" in plan.compiled.facts:
    facts = plan.compiled.facts["memory"]
    rows += [("temporary", facts["temporary"]), ("code", facts["code"])]
  else:
    kept = sum(buffer.bytes for buffer in plan.traced.kept[plan.traced.policy])
    rows += [("gradients", plan.traced.gradients), ("kept for the backward pass", kept)]
    rows += [("one layer's backward pass", plan.traced.passing[plan.traced.policy])]
  return [*rows, ("peak", plan.needed), ("available", plan.topology.chip.memory)]


def step_rows(plan: Plan) -> list[list[str]]:
  """A step by its two readings."""
  both = plan.schedules
  rows = [
    [name, *(short(getattr(made, field)) for made in both)]
    for name, field in (
      ("step", "step"),
      ("products", "products"),
      ("attention kernels", "kernels"),
      ("the rest of computing", "other"),
      ("waiting for the network", "exposed"),
    )
  ]
  use = [plan.utilization(made.step) for made in both]
  tokens = [plan.traced.tokens / made.step / plan.topology.devices for made in both]
  hours = [plan.hours(made.step) for made in both]
  return [
    *rows,
    ["MFU, causal attention counted half", *(f"{half:.1%}" for half, _ in use)],
    ["MFU, counted in full", *(f"{full:.1%}" for _, full in use)],
    ["tokens a second and device", *(f"{n:,.0f}" for n in tokens)],
    ["chip-hours of the budget", *(f"{n:,.0f}" for n in hours)],
    [f"dollars at {plan.price:.2f} an hour", *(f"{n * plan.price:,.0f}" for n in hours)],
  ]


def ledger_row(entry: collectives.Entry) -> list[str]:
  """One line of the ledger."""
  return [
    entry.line,
    entry.kind,
    ", ".join(entry.axes) or "-",
    "yes" if entry.asynchronous else "no",
    str(entry.count),
    gb(entry.wire),
    entry.scope,
  ]


def buffer_rows(plan: Plan) -> list[list[str]]:
  """The largest buffers."""
  return [[buffer.line or "-", gib(buffer.bytes), buffer.what] for buffer in plan.largest]


def search_rows(plan: Plan, candidates: Sequence) -> list[list[str]]:
  """Candidates of a search."""
  return [
    [short(c.step), short(c.exposed), gib(c.memory), " ".join(plan.words.get(i, ())) or "as is"]
    for i, c in enumerate(candidates)
  ]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
  """Columns as wide as they must be; numbers to the right."""
  rows = [list(head), *map(list, rows)]
  widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
  numeric = [
    all(row[i][:1].isdigit() or row[i] == "-" for row in rows[1:]) for i in range(len(head))
  ]
  for row in rows:
    cells = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric)]
    yield "  ".join(cells).rstrip()
