"""The verdicts as a page that opens from disk: effects, learning curves, and what was run."""

from __future__ import annotations

import math
from pathlib import Path

from research import disk
from research.claims import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from research.log.progress import duration, short
from research.report import arm_plots, page, tables
from research.report.arm_plots import Arm
from research.report.groups import Group, differing, flops, parameters, seconds, tokens
from research.reproduce import words
from research.reproduce.judged import Judgement, Study

FILE = "reproduce.html"
WIDE, NARROW = (864, 320), (384, 300)
KINDS = {REPRODUCED: "yes", NOT_REPRODUCED: "no", INCONCLUSIVE: "open"}
ABOUT = (
  "Effects are paired by seed. They are positive where they bear the paper out or, where two "
  "dashed lines show a tolerance, have to lie between these. The bar is the 95 % interval over "
  "seeds, small circles are the seeds, the shade holds effects smaller than what so many seeds "
  "find in 80 of 100 trials, the diamond is the paper's own effect where it has the same unit. "
  "Curves are means over seeds (thin lines) with their 95 % intervals; these are of each arm by "
  "itself, and wider than that of the paired difference."
)


def write(study: Study, workdir: Path) -> Path:
  """Writes `workdir`/reproduce.html."""
  path = workdir / FILE
  disk.replace(path, render(study))
  return path


def render(study: Study) -> str:
  """The page as HTML."""
  claims = len(study.judgements)
  body = [
    f"<h1>{page.text(study.title)}</h1>",
    page.paragraph(page.text(_status(study)), "status"),
    page.paragraph(page.text(study.about), "lead"),
    "<section><h2>Verdicts</h2>",
    _table(study),
    page.paragraph(page.text(f"{ABOUT} {words.by_luck(claims)}"), "note"),
    "</section>",
  ]
  for i, judgement in enumerate(study.judgements):
    body += [
      f"<section><h2>{page.text(judgement.claim.name)}</h2>",
      _claim(study, judgement, f"claim-{i}"),
      "</section>",
    ]
  body += ["<section><h2>What was run, and what it cost</h2>", _costs(study), "</section>"]
  body += [page.fields([("command", study.command)])]
  return page.page(study.title, body)


def _status(study: Study) -> str:
  runs = [run for seeds in study.runs.values() for run in seeds.values()]
  spent = sum(run.seconds for run in runs)
  claims = f"{len(study.judgements)} claim{'s' * (len(study.judgements) != 1)}"
  return f"{claims}: {study.counts()} · {len(runs)} runs, {duration(spent)} of them in all"


def _table(study: Study) -> str:
  header = ("", "verdict", "effect", "95 % interval", "could see", "paper")
  rows = []
  for judgement in study.judgements:
    verdict = judgement.verdict
    cells = (judgement.claim.name, verdict.outcome.lower(), words.effect(verdict))
    cells += (words.interval(verdict), words.seen(verdict), words.marked(verdict))
    rows.append((KINDS[verdict.outcome], cells))
  table = page.table(header, rows)
  if any(words.elsewhere(judgement.verdict) for judgement in study.judgements):
    table += page.paragraph("* in another unit than ours, named below", "note")
  return table


def _claim(study: Study, judgement: Judgement, key: str) -> str:
  claim, verdict = judgement.claim, judgement.verdict
  where = f"{claim.paper}, {claim.where}"
  parts = [
    page.paragraph(f"{page.text(claim.sentence)} <i>{page.text(where)}</i>"),
    page.paragraph(
      f"<b>{page.text(verdict.outcome.capitalize())}</b> at this scale. {page.text(verdict.reason)}"
    ),
  ]
  if verdict.effect is not None:
    strips = [
      arm_plots.effect(
        verdict.effect,
        verdict.pairs,
        detectable=verdict.detectable,
        asked=verdict.asked,
        paper=math.nan if words.elsewhere(verdict) else verdict.paper,
        key=f"{key}-effect-{shape[0]}",
        width=shape[0],
      )
      for shape in (WIDE, NARROW)
    ]
    parts += [page.figure(*strips)]
  known = [
    ("effect", f"{words.effect(verdict)}: {verdict.means}"),
    ("95 % interval", words.interval(verdict)),
    ("could see", words.seen(verdict)),
    ("in the paper", words.paper(verdict)),
    *verdict.facts,
  ]
  parts += [page.fields((name, said) for name, said in known if said != tables.NONE)]
  return "".join(parts) + _lines(judgement, key) + _curves(study, judgement, key)


def _lines(judgement: Judgement, key: str) -> str:
  """The claim's own figure, where it has one."""
  verdict = judgement.verdict
  if not verdict.lines:
    return ""
  shapes = [
    arm_plots.lines(verdict.lines, key=f"{key}-lines-{shape[0]}", size=shape)
    for shape in (WIDE, NARROW)
  ]
  note = f"{judgement.claim.metric} over {verdict.across}; the points are runs"
  return page.figure(*shapes) + page.paragraph(page.text(note), "note")


def _curves(study: Study, judgement: Judgement, key: str) -> str:
  evaluation, _, value = judgement.claim.metric.rpartition(".")
  arms = []
  for name in judgement.claim.arms():
    seeds = study.runs.get(name, {})
    steps, values = Group(name, tuple(seeds[seed] for seed in sorted(seeds))).curve(
      evaluation, value
    )
    arms.append(Arm(name, steps, values))
  if not any(len(arm.steps) > 1 for arm in arms):
    return ""
  shapes = [
    arm_plots.curves(arms, lower=judgement.claim.lower, key=f"{key}-curves-{shape[0]}", size=shape)
    for shape in (WIDE, NARROW)
  ]
  note = page.paragraph(page.text(f"{judgement.claim.metric} by step"), "note")
  return page.figure(*shapes) + note


def _costs(study: Study) -> str:
  groups, rows = _groups(study), []
  for group in groups:
    outcomes = study.results.outcomes[group.name].values()
    done = sum(not outcome.failure for outcome in outcomes)
    cells = [group.name, f"{done} of {len(outcomes)}"]
    cells.append(", ".join(dict.fromkeys(f"{run.step:,}" for run in group.runs)))
    for value in (parameters, tokens, flops):
      found = group.mean(value).estimate
      cells.append(short(found) if math.isfinite(found) else tables.NONE)
    spent = group.each(seconds)
    cells.append(duration(float(spent.sum())) if len(spent) else tables.NONE)
    rows.append(("", cells))
  header = ("", "seeds", "steps", "parameters", "tokens", "FLOPs of each", "time of all")
  return page.table(header, rows) + _differences(groups)


def _groups(study: Study) -> list[Group]:
  return [
    Group(arm, tuple(seeds[seed] for seed in sorted(seeds))) for arm, seeds in study.runs.items()
  ]


def _differences(groups: list[Group]) -> str:
  """The fields in which the arms differ."""
  firsts = [group.runs[0] for group in groups]
  paths = differing(firsts)
  if not paths:
    return ""
  rows = [
    ("", [path, *(str(run.experiment["description"].get(path, tables.NONE)) for run in firsts)])
    for path in paths
  ]
  return "<h3>What differs between the arms</h3>" + page.table(
    ["", *(group.name for group in groups)], rows
  )
