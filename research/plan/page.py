"""A plan as a page that opens from disk: a verdict, where memory and time go, what is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from research.plan import collectives, text
from research.plan.figures import gb, gib, short, tera
from research.plan.findings import findings
from research.plan.result import Plan
from research.report import page

LEDGER_ROWS = 40


def html(plan: Plan) -> str:
  """The whole document."""
  return page.page(f"{plan.name} on {plan.topology}", _body(plan))


def _body(plan: Plan) -> Iterator[str]:
  yield f"<h1>{page.text(plan.name)} on {page.text(plan.topology)}</h1>"
  yield page.paragraph(page.text(text.verdict(plan)), "lead")
  yield page.facts(_facts(plan))
  said = findings(plan)
  if said:
    yield "<h2>Findings</h2>"
    yield from (page.paragraph(page.text(sentence)) for sentence in said)
  yield "<h2>Memory</h2>"
  yield _table(["bytes of a device", "GiB"], [[k, gib(v)] for k, v in text.memory(plan)])
  yield "<h3>Largest when memory is fullest</h3>"
  yield _table(text.BUFFERS, text.buffer_rows(plan))
  if len(plan.traced.kept) > 1:
    rows = [
      [policy, gib(plan.traced.memory(policy)), tera(plan.traced.computed[policy])]
      for policy in plan.traced.kept
    ]
    yield "<h3>Remat policies, estimated</h3>"
    yield _table(["policy", "GiB", "TFLOP a step"], rows)
  if plan.schedules:
    yield "<h2>Time</h2>"
    heads = text.READINGS[bool(plan.topology.chip.clock)]
    yield _table(["seconds of a step", *heads], text.step_rows(plan))
    yield page.paragraph(
      "Modelled from the compiled schedule, not measured: compare within 5 %, trust within 20 %. "
      "Attention kernels are taken to reach 45 % of the peak.",
      "note",
    )
  if plan.entries:
    yield "<h2>Network</h2>"
    totals = collectives.totals(plan.entries).items()
    yield _table(
      ["sent by a device in a step", "times", "GB", "beside computation", "s alone"],
      [
        [
          k,
          f"{t['count']:.0f}",
          gb(t["wire"]),
          gb(t["asynchronous"]),
          short(t["seconds"]),
        ]
        for k, t in totals
      ],
    )
    yield "<h3>By cause</h3>"
    yield _table(text.LEDGER, [text.ledger_row(entry) for entry in plan.entries[:LEDGER_ROWS]])
  candidates = plan.best or ([] if plan.fits else plan.fixes)
  if candidates:
    yield f"<h2>{'Fastest that fit' if plan.best else 'Cheapest ways to make it fit'}</h2>"
    yield _table(text.SEARCHED, text.search_rows(plan, candidates))
  if plan.compiled:
    facts = plan.compiled.facts
    yield "<h2>Compiler</h2>"
    yield page.fields(
      [
        ("compiler", facts["compiler"]),
        ("jax", facts["jax"]),
        ("options", ", ".join(f"{k}={v}" for k, v in facts["options"].items()) or "none"),
      ]
    )


def _facts(plan: Plan) -> list[tuple[str, str]]:
  traced = plan.traced
  facts = [
    ("devices", f"{plan.topology.devices:,}"),
    ("mesh", " ".join(f"{axis} {n}" for axis, n in traced.mesh.items() if n > 1) or "one device"),
    ("parameters", f"{traced.parameters:,}"),
    ("tokens a step", f"{traced.tokens:,}"),
    ("model TFLOP a step and device", tera(traced.causal_flops)),
  ]
  if plan.schedules:
    fast, slow = plan.schedules
    facts += [
      ("compiled TFLOP", tera(slow.flops)),
      ("chip-hours", f"{plan.hours(fast.step):,.0f} to {plan.hours(slow.step):,.0f}"),
      (
        "cost",
        f"${plan.hours(fast.step) * plan.price:,.0f} to ${plan.hours(slow.step) * plan.price:,.0f}",
      ),
    ]
  return facts


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  return page.table(head, [("", row) for row in rows])
