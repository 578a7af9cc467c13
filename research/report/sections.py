"""A run as a page: what it reached, beside what it is to be compared with.

`write(workdir)` reads what the run wrote (metrics.jsonl, samples.jsonl, experiment.json), of which
any part may be missing, and writes report.html: one file that opens anywhere and loads nothing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research import disk
from research.errors import RunError
from research.log import lines
from research.log.lines import Line
from research.log.progress import duration, short
from research.report import canvas, gallery, noticed, page, plots, tables
from research.report.run import Run, Unit, read, units

WIDE, NARROW, PANEL = (864, 400), (384, 330), (272, 150)
SHOWN_SAMPLES = 40  # steps of samples in the page; samples.jsonl has all
HIDDEN = (
  "description",
  "name",
  "parameters",
  "device",
  "seconds",
)  # of experiment.json: shown elsewhere
PANELS = {
  "learning_rate": "learning rate",
  "gradient_norm": "gradient norm",
  "tokens_per_second": "tokens per second",
  "of_chance": "loss over that of chance",
  "scale": "1 / temperature",
}


def write(workdir: str | os.PathLike[str]) -> Path:
  """Makes `workdir`/report.html and returns its path.

  Raises:
    UserError: there is no run in `workdir`.
    RunError: the page cannot be written there.
  """
  workdir = Path(workdir)
  run = read(workdir)
  path = workdir / "report.html"
  more = [*noticed.sections(workdir), *gallery.sections(workdir)]
  try:
    disk.replace(path, render(run, more))
  except OSError as error:  # a run that was stopped is to be gone on with all the same
    raise RunError(
      f"{path} cannot be written: {error.strerror}; research report --output DIR writes elsewhere."
    ) from error
  return path


def render(run: Run, more: Sequence[tuple[str, str]] = ()) -> str:
  """The page as HTML; `more` are titles and HTML of what the run left beside its log."""
  found = units(run)
  parts = [f"<h1>{page.text(run.name)}</h1>", page.paragraph(_status(run), "status")]
  if found:
    parts.append(page.paragraph(_result(run, found[0]), "lead"))
  sections = [
    ("The loss", _curves(run, found)),
    ("Beside the baselines" if run.baselines else "Held-out data", tables.beside(run, found)),
    ("Other measures", tables.others(run)),
    ("Beside chance", tables.beside_chance(run)),
    ("What is wrong", gallery.health(run)),
    ("On the way", _panels(run)),
    *more,
    ("What it wrote", _samples(run)),
    ("What it took", _costs(run)),
    ("The experiment", _description(run)),
  ]
  for title, body in sections:
    if body:
      parts += [f"<section><h2>{title}</h2>", body, "</section>"]
  if run.broken:
    many = "1 line" if run.broken == 1 else f"{run.broken} lines"
    parts.append(page.paragraph(f"{many} of the files could not be read.", "note"))
  return page.page(run.name, parts)


def _status(run: Run) -> str:
  words = []
  if run.steps and run.step >= run.steps:
    words.append(f"finished, {run.steps:,} step{'s' * (run.steps != 1)}")
  elif run.step or run.steps:
    words.append(f"unfinished, step {run.step:,}" + (f" of {run.steps:,}" if run.steps else ""))
  if run.seconds:
    words.append(duration(run.seconds))
  device = run.facts.get("device", run.experiment.get("device"))
  words += [device] if isinstance(device, str) else []
  return page.text(" · ".join(words))


def _result(run: Run, unit: Unit) -> str:
  """The outcome as a sentence of HTML."""
  newest = {name: found[-1] for name, found in run.evaluations.items() if found}
  name = next((name for name, line in newest.items() if math.isfinite(unit.of(line))), None)
  if name is None:
    return "Nothing has been evaluated on held-out data yet."
  line, value = newest[name], unit.of(newest[name])
  number = page.text(f"{tables.value(value)}{tables.plus_minus(unit.error(line))} {unit.label}")
  where = page.text("held-out data" if name == "heldout" else name)
  # A counted model has no steps to speak of.
  when = f"After {_count(line['step'])} steps: " if run.train else ""
  sentence = f"{when}<b>{number}</b> on {where}"
  best = tables.best_baseline(run, unit)
  if best is None:
    return sentence + "."
  level, other = unit.of(run.baselines[best]), page.text(best)
  share = f"{abs(100 * (value / level - 1)):.1f} % {'less' if value < level else 'more'} than"
  which = "the baseline" if len(run.baselines) == 1 else "the best of the baselines"
  return f"{sentence}, {share} {other}, {which}."


def _curve(name: str, found: list[Line], unit: Unit) -> plots.Curve:
  return plots.Curve(
    name,
    np.array([line["step"] for line in found], float),
    np.array([unit.of(line) for line in found], float),
    np.array([unit.error(line) for line in found], float),
  )


def _curves(run: Run, found: list[Unit]) -> str:
  names, figures = [], []
  for unit in found:
    train = _curve("train", run.train, unit)
    heldout = [_curve(tables.shown(name), rows, unit) for name, rows in run.evaluations.items()]
    if max((len(c.finite().values) for c in (train, *heldout)), default=0) < 2:
      continue  # one point is no curve: the table has it
    levels = [(name, unit.of(line)) for name, line in run.baselines.items()]
    shapes = [
      plots.loss(train, heldout, levels, key=f"{unit.key}-{shape[0]}", size=shape)
      for shape in (WIDE, NARROW)
    ]
    figures.append(page.figure(*shapes, kind=f"unit-{len(figures)}"))
    names.append(unit.label)
  if not figures:
    return ""
  lost = sum(not math.isfinite(found[-1].of(line)) for line in run.train)
  notes = f"{names[0]} by step; " if len(names) == 1 else "By step; "
  notes += "training as measured (faint) and smoothed; bands are standard errors."
  if lost:
    notes += f" At {lost} of {len(run.train)} logged steps there was no finite value."
  caption = page.paragraph(page.text(notes[0].upper() + notes[1:]), "note")
  return page.choice(names, figures) + caption


def _panels(run: Run) -> str:
  parts = []
  for key, label in PANELS.items():
    rows = [line for line in run.train if key in line]
    curve = _curve(label, rows, Unit(key, label)).finite()
    if len(curve.values) > 1:
      svg = plots.panel(curve, key=key, size=PANEL)
      parts.append((label, canvas.tick(float(f"{curve.values[-1]:.3g}")), svg))
  return page.panels(parts) if parts else ""


def _samples(run: Run) -> str:
  steps: dict[Any, list[str]] = {}
  for line in run.samples:
    shown = page.sample(str(line.get("prompt") or ""), str(line.get("text") or ""))
    steps.setdefault(line.get("step"), []).append(shown)
  newest = sorted(steps, key=lambda step: tables.order(-lines.number(step)))
  parts = [
    f"<h3>after step {page.text(_count(step))}</h3>{''.join(steps[step])}" for step in newest[:1]
  ]
  parts += [
    page.details(f"after step {_count(step)}", "".join(steps[step]))
    for step in newest[1:SHOWN_SAMPLES]
  ]
  if len(newest) > SHOWN_SAMPLES:
    parts.append(page.paragraph("Earlier ones are in samples.jsonl.", "note"))
  return "".join(parts)


def _costs(run: Run) -> str:
  sums: dict[str, float] = {}
  for line in run.timing:
    for key, value in line.items():
      if key.endswith("_seconds") and math.isfinite(lines.number(value)):
        sums[key] = sums.get(key, 0.0) + lines.number(value)
  pairs = [("in all", duration(run.seconds))] if run.seconds else []
  words = {"train": "training", "compile": "compiling", "evaluate": "evaluating", "save": "saving"}
  words |= {"sample": "sampling", "baselines": "counting baselines", "other": "pauses"}
  for key, seconds in sorted(sums.items(), key=lambda item: -item[1]):
    what = key.removesuffix("_seconds")
    pairs.append(
      (words.get(what, what), duration(seconds) if seconds >= 10 else f"{seconds:.2g} s")
    )
  last = run.train[-1] if run.train else {}
  parameters = run.facts.get("parameters", run.experiment.get("parameters"))
  memory = max((lines.number(line.get("peak_memory_bytes", 0)) for line in run.timing), default=0)
  wanted = [
    ("parameters", lines.number(parameters), lambda x: f"{x:,.0f}"),
    ("tokens seen", lines.number(last.get("tokens")), short),
    ("tokens per second", _typical(run, "tokens_per_second"), short),
    ("of the machine's peak", _typical(run, "peak_share"), lambda x: f"{100 * x:.0f} %"),
    ("waiting for data", _typical(run, "data_wait_share"), lambda x: f"{100 * x:.1f} %"),
    ("peak memory", memory or math.nan, lambda x: f"{x / 2**30:.2f} GiB"),
  ]
  pairs += [(name, show(value)) for name, value, show in wanted if math.isfinite(value)]
  return page.facts(pairs) if pairs else ""


def _typical(run: Run, key: str) -> float:
  values = [lines.number(line[key]) for line in run.train if key in line]
  return float(np.nanmedian(values)) if np.isfinite(values).any() else math.nan


def _description(run: Run) -> str:
  head = {k: v for k, v in run.experiment.items() if k not in HIDDEN and v not in (None, {}, [])}
  first = [
    key for key in ("command", "file", "function", "arguments", "knobs", "overrides") if key in head
  ]
  order = [*first, *(key for key in head if key not in first)]
  parts = [page.fields((key, _flat(head[key])) for key in order)] if head else []
  groups: dict[str, list[tuple[str, str]]] = {}
  for path, value in run.experiment["description"].items():
    groups.setdefault(path.split(".")[0] if "." in path else "", []).append((path, _flat(value)))
  plain = dict(groups.pop("", []))
  for group, pairs in groups.items():
    if group in plain:
      pairs.insert(0, (group, plain.pop(group)))
  for group, pairs in ([("run", list(plain.items()))] if plain else []) + list(groups.items()):
    parts.append(f"<h3>{page.text(group)}</h3>" + page.fields(pairs))
  return "".join(parts)


def _flat(value: Any) -> str:
  if isinstance(value, Mapping):
    return "  ".join(f"{key}={_flat(part)}" for key, part in value.items())
  if isinstance(value, list) and all(isinstance(part, str | int | float) for part in value):
    return " ".join(map(str, value))
  return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _count(step: Any) -> str:
  return f"{step:,}" if isinstance(step, int) else str(step)
