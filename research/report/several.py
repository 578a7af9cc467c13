"""Several runs as one page and two tables: arms over seeds, quality against cost, a sweep's fields.

`write(runs, folder)` reads what each run wrote, and leaves report.html, runs.csv and runs.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from research import disk, statistics
from research.errors import UserError
from research.log.progress import duration
from research.report import arm_plots, groups, importance, page, parallel, table_files, tables
from research.report.arm_plots import Arm
from research.report.groups import Group
from research.report.run import Run, holds_a_run, read, units

Value = Callable[[Run], float]
WIDE, NARROW = (864, 400), (384, 330)
HALF = (410, 300)
SHOWN = 12  # arms in a plot of curves: the best ones
BESIDE, PROMPTS = 6, 3  # arms and prompts of samples side by side
NAMED = 6  # arms that are told as good as the best
AXES = 7  # fields in the parallel coordinates: those that explain the most
FEWEST = 8  # runs from which on a sweep's fields are looked at
MORE = (
  *("accuracy", "f1", "bleu", "chrf", "recall", "precision", "rouge", "exact", "answered", "gain"),
  *("at_", "top_", "shots_", "class_mean", "to_text", "to_image"),
)


def write(runs: Sequence[Path], folder: Path) -> Path:
  """Makes the page and the tables of these runs in `folder`; returns the path of the page.

  Raises:
    UserError: there is no run, one of them is none, or the folder cannot be written.
  """
  began = [Path(run) for run in runs if holds_a_run(Path(run))]
  if not began:
    raise UserError(f"{folder} holds no runs; give the --workdir of a run or of a sweep.")
  found = groups.grouped(read(run) for run in began)
  metric = main_metric(found)
  header, lines = table_files.rows(found, _figures(found, metric))
  files = {
    "runs.csv": table_files.as_csv(found),
    "runs.md": table_files.as_markdown(header, lines),
    "report.html": render(found, metric, folder.absolute().name, len(runs) - len(began)),
  }
  try:
    for name, text in files.items():
      disk.replace(folder / name, text)
  except OSError as error:
    raise UserError(f"{folder} cannot be written: {error.strerror}; give --output.") from error
  return folder / "report.html"


def main_metric(found: Sequence[Group]) -> str:
  """ "<evaluation>.<value>" by which arms are compared: the first evaluation's loss, or its first.

  Bits per byte where they were measured, for they do not depend on the pieces of a tokenizer.
  """
  measured = [groups.measured(run) for group in found for run in group.runs]
  names = list(dict.fromkeys(name for values in measured for name in values))
  keys = [unit.key for group in found for run in group.runs for unit in units(run)]
  for key in dict.fromkeys([*keys, "loss"]):
    for name in names:
      if name.endswith(f".{key}"):
        return name
  return names[0] if names else ""


def lower_is_better(metric: str) -> bool:
  """Whether less of a metric is better: of all but those whose names say that they are shares."""
  value = metric.rpartition(".")[2].lower()
  return not any(word in value for word in MORE)


def render(found: Sequence[Group], metric: str, title: str, failed: int = 0) -> str:
  """The page as HTML; `failed` is how many more runs failed before they began."""
  lower = lower_is_better(metric)
  value = groups.outcome(found, metric)
  ranked = sorted(found, key=lambda group: _rank(group, value, lower))
  header, lines = table_files.rows(ranked, _figures(found, metric))
  sections = [
    ("The arms", page.table(header, [("", line) for line in lines])),
    (f"{metric} by step", _curves(ranked[:SHOWN], metric, lower)),
    ("Quality against cost", _pareto(found, metric, value, lower)),
    ("What the fields do", _fields(found, metric, value, lower)),
    ("What they wrote", _samples(ranked[:BESIDE])),
  ]
  body = [
    f"<h1>{page.text(title)}</h1>",
    page.paragraph(page.text(_status(found, failed)), "status"),
    page.paragraph(_result(ranked, metric, value, lower), "lead"),
  ]
  for heading, part in sections:
    if part:
      body += [f"<section><h2>{page.text(heading)}</h2>", part, "</section>"]
  return page.page(title, body)


def _rank(group: Group, value: Value, lower: bool) -> float:
  mean = group.mean(value).estimate
  return math.inf if math.isnan(mean) else mean if lower else -mean


def _figures(found: Sequence[Group], metric: str) -> list[str]:
  """The main metric, then one value of each other evaluation."""
  names = dict.fromkeys(
    name for group in found for run in group.runs for name in groups.measured(run)
  )
  others: dict[str, str] = {}
  for name in names:
    evaluation = name.rpartition(".")[0]
    if evaluation != metric.rpartition(".")[0] or not lower_is_better(name):
      others.setdefault(evaluation, name)
  return [name for name in (metric, *others.values()) if name][:5]


def _status(found: Sequence[Group], failed: int) -> str:
  runs = [run for group in found for run in group.runs]
  spent = sum(run.seconds for run in runs)
  words = [f"{len(runs)} runs", f"{len(found)} arms", f"{duration(spent)} of them in all"]
  unfinished = sum(not run.ended for run in runs)
  words += [f"{unfinished} unfinished"] if unfinished else []
  words += [f"{failed} more failed before they began"] if failed else []
  return " · ".join(words)


def _result(ranked: Sequence[Group], metric: str, value: Value, lower: bool) -> str:
  """Which arm is best, and which others may be as good: nothing is better inside of the noise."""
  if not metric:
    return "Nothing has been evaluated yet."
  best, *others = ranked
  seeds = best.mean(value).n
  if not seeds:
    return f"No arm has a finite {page.text(metric)}."
  said = f"<b>{page.text(best.name)}</b> has the best {page.text(metric)}: "
  said += page.text(table_files.figure(best, value))
  if seeds < 2:
    return f"{said}, with one seed, which cannot tell it from noise."
  said += f" over {seeds} seeds."
  close, untold = [], []
  for other in others:
    lead = groups.differences(best, other, value)
    if len(lead) > 1:
      close += [other.name] * (statistics.mean(lead if lower else -lead).low <= 0)
    elif other.mean(value).n:  # an arm of which nothing was measured is as good as none
      untold.append(other.name)
  return said + _named("Within the noise of it", close) + _named("Too few seeds to tell", untold)


def _named(what: str, arms: Sequence[str]) -> str:
  more = f" and {len(arms) - NAMED} more" if len(arms) > NAMED else ""
  return f" {what}: {page.text(', '.join(arms[:NAMED]) + more)}." if arms else ""


def _curves(ranked: Sequence[Group], metric: str, lower: bool) -> str:
  evaluation, _, value = metric.rpartition(".")
  arms = [Arm(group.name, *group.curve(evaluation, value)) for group in ranked]
  arms = [arm for arm in arms if np.isfinite(arm.values).any()]
  if not any(len(arm.steps) > 1 for arm in arms):
    return ""
  shapes = [
    arm_plots.curves(arms, lower=lower, key=f"curves-{shape[0]}", size=shape)
    for shape in (WIDE, NARROW)
  ]
  note = "Means over seeds (thin lines); bands are their 95 % intervals."
  return page.figure(*shapes) + page.paragraph(note, "note")


def _pareto(found: Sequence[Group], metric: str, value: Value, lower: bool) -> str:
  parts = []
  for name, cost in (("FLOPs of a run", groups.flops), ("seconds of a run", groups.seconds)):
    points = [
      (group.name, group.mean(_where(value, cost)).estimate, group.mean(value).estimate)
      for group in found
    ]
    points = [p for p in points if p[1] > 0 and math.isfinite(p[1]) and math.isfinite(p[2])]
    if len(points) > 1:
      svg = arm_plots.pareto(points, lower=lower, key=f"pareto-{len(parts)}", size=HALF)
      parts.append((f"{metric} against {name}", "", svg))
  note = "The line joins what nothing cheaper beats. Seconds are of all that a run did."
  return f"{page.panels(parts)}{page.paragraph(note, 'note')}" if parts else ""


def _where(value: Value, cost: Value) -> Value:
  """The cost of a run that has the value."""
  return lambda run: cost(run) if math.isfinite(value(run)) else math.nan


def _fields(found: Sequence[Group], metric: str, value: Value, lower: bool) -> str:
  """What each field of a sweep explains, and its runs as lines through the fields."""
  runs = [run for group in found for run in group.runs]
  outcomes = np.array([value(run) for run in runs])
  runs = [run for run, good in zip(runs, np.isfinite(outcomes), strict=True) if good]
  outcomes = outcomes[np.isfinite(outcomes)]
  if len(runs) < FEWEST:
    return ""
  outcomes = arm_plots.bounded(outcomes, lower=lower)
  fields = {path: [_value(run, path) for run in runs] for path in groups.differing(runs)}
  if len(fields) < 2:
    return ""
  shares = importance.ranked(fields, outcomes)
  rows = [("", [name, str(len(set(fields[name]))), _percent(share)]) for name, share in shares]
  chosen = {name: fields[name] for name, _ in shares[:AXES]}
  shapes = [
    parallel.parallel(chosen, outcomes, metric, lower=lower, key=f"fields-{s[0]}", size=s)
    for s in (WIDE, NARROW)
  ]
  note = (
    "Every run is a line; the best fifth is drawn in colour. A field explains the share of the "
    "variance that lies between its values, less what luck would give it; what fields do only "
    "together shows in none of them. A loss of more than twice the best counts as twice the best."
  )
  table = page.table(["", "values", f"of the variance of {metric}"], rows)
  return page.figure(*shapes) + page.paragraph(note, "note") + table


def _value(run: Run, path: str) -> str:
  return str(run.experiment["description"].get(path, tables.NONE)).strip("'")


def _percent(share: float) -> str:
  return tables.NONE if math.isnan(share) else f"{100 * share:.0f} %"


def _samples(ranked: Sequence[Group]) -> str:
  """What the first seed of each arm wrote last, under the same prompts."""
  written: dict[str, dict[str, str]] = {}
  for group in ranked:
    newest = max((line.get("step") or 0 for line in group.runs[0].samples), default=0)
    for line in group.runs[0].samples:
      if line.get("step") == newest:
        texts = written.setdefault(str(line.get("prompt") or ""), {})
        texts.setdefault(group.name, str(line.get("text") or ""))
  shared = [prompt for prompt, texts in written.items() if len(texts) > 1][:PROMPTS]
  return "".join(
    page.beside((name, page.sample(prompt, text)) for name, text in written[prompt].items())
    for prompt in shared
  )
