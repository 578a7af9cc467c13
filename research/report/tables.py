"""The tables of a report: losses beside baselines, and what else was measured."""

from __future__ import annotations

import math

from research.log import lines
from research.report import page
from research.report.run import Run, Unit

NONE = "\N{EN DASH}"  # stands where there is no number
MINUS = "\N{MINUS SIGN}"
# Keys of an evaluation's line that are told elsewhere, or no measure.
KNOWN = {"step", "time", "split", "standard_error", "loss", "nats", "bits_per_byte", "perplexity"}


def beside(run: Run, found: list[Unit]) -> str:
  """The evaluations, and the baselines where there are some, in the units of the loss."""
  if not found or not (run.baselines or any(run.evaluations.values())):
    return ""
  unit = found[0]
  best = best_baseline(run, unit)
  rows = []
  for name, measured in run.evaluations.items():
    if not any({unit.key, unit.instead} & line.keys() for line in measured):
      continue  # it measures something else
    rows.append(("strong", f"this run, {shown(name)}", measured[-1]))
    scored = [line for line in measured if math.isfinite(unit.of(line))]
    top = min(scored, key=unit.of, default=None)
    if top is not None and unit.of(top) < unit.of(measured[-1]):
      rows.append(("", f"its best, step {top['step']:,}", top))
  ranked = sorted(run.baselines.items(), key=lambda item: order(unit.of(item[1])))
  rows += [("best" if name == best else "", name, line) for name, line in ranked]
  perplexity = found[-1].key == "nats"
  header = ["", *(u.label for u in found)]
  header += ["perplexity"] if perplexity else []
  header += ["to best baseline"] if best is not None else []
  cells = []
  for kind, name, line in rows:
    row = [name, *(value(u.of(line)) + plus_minus(u.error(line)) for u in found)]
    if perplexity:
      row.append(f"{math.exp(min(found[-1].of(line), 700)):,.1f}".replace("nan", NONE))
    if best is not None:
      change = 100 * (unit.of(line) / unit.of(run.baselines[best]) - 1)
      row.append(
        "" if kind == "best" or math.isnan(change) else f"{change:+.1f} %".replace("-", MINUS)
      )
    cells.append((kind, row))
  return page.table(header, cells)


def others(run: Run) -> str:
  """What else the newest evaluations measured: accuracy, F1, BLEU and the like."""
  newest = {name: measured[-1] for name, measured in run.evaluations.items() if measured}
  keys = dict.fromkeys(
    key
    for line in newest.values()
    for key, number in line.items()
    if key not in KNOWN and not isinstance(number, dict) and key not in line.get("chance", {})
  )
  if not keys:
    return ""
  found = [Unit(key, key.replace("_", " ")) for key in keys]
  rows = [
    ("", [f"this run, {shown(name)}", *(value(u.of(x)) + plus_minus(u.error(x)) for u in found)])
    for name, x in newest.items()
    if any(math.isfinite(u.of(x)) for u in found)
  ]
  return page.table(["", *(u.label for u in found)], rows)


def beside_chance(run: Run) -> str:
  """What the newest evaluations measured over samples: with intervals, beside what chance has."""
  rows = []
  for name, measured in run.evaluations.items():
    line = measured[-1] if measured else {}
    chance, interval, count = (line.get(key, {}) for key in ("chance", "interval", "n"))
    if not all(isinstance(part, dict) for part in (chance, interval, count)):
      continue
    for key, guessed in chance.items():
      low, high = (lines.number(x) for x in interval.get(key, (math.nan, math.nan)))
      cells = [Unit(key, "").of(line), lines.number(guessed)]
      said = f"{value(low)} to {value(high)}" if math.isfinite(low) else NONE
      shares = [value(cell) for cell in cells]
      label = f"{shown(name)}, {key.replace('_', ' ')}"
      rows.append(("", [label, shares[0], said, shares[1], f"{lines.number(count.get(key)):,.0f}"]))
  return page.table(["", "measured", "95 % interval", "by chance", "n"], rows) if rows else ""


def best_baseline(run: Run, unit: Unit) -> str | None:
  """The name of the baseline that is best in a unit."""
  scored = {name: unit.of(line) for name, line in run.baselines.items()}
  scored = {name: value for name, value in scored.items() if math.isfinite(value) and value}
  return min(scored, key=scored.__getitem__, default=None)


def value(number: float) -> str:
  """A number as it is shown."""
  if not math.isfinite(number):
    return NONE if math.isnan(number) else "∞"
  if abs(number) >= 100:
    return f"{number:,.1f}"
  return f"{number:.4g}" if number < 1 else f"{number:.3f}"


def plus_minus(error: float) -> str:
  """Its standard error behind it, where there is one."""
  return f" ± {error:.3f}" if math.isfinite(error) and error else ""


def shown(name: str) -> str:
  """The name of an evaluation."""
  return "held-out" if name == "heldout" else name


def order(number: float) -> float:
  """What to sort by, so that no number comes last."""
  return math.inf if math.isnan(number) else number
