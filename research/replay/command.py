"""`research replay RUN --step N`: what is printed, and the page beside the run's report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import rich.box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from research import disk
from research.errors import UserError
from research.replay import reading
from research.replay.examples import Examples, examples
from research.replay.recall import Recalled, recall, recorded
from research.report import page

PRINTED, WIDTH, LINE = 10, 60, 160  # examples, letters of each, and of a line
HEADINGS = ("example", "epoch", "loss", "of batch", "gradient", "share", "most in")


def replay(workdir: Path, step: int, most: int) -> int:
  """Takes a step of a run once more, looks at every example of it, and writes a page.

  Args:
    workdir: of the run; nothing but `replay-STEP.html` is written there.
    step: the update, from 1.
    most: updates that may be taken again to get there from a checkpoint.

  Raises:
    UserError, IntegrityError: as of `recall`.
  """
  console = Console(width=LINE, highlight=False, soft_wrap=True)
  recalled = recall(workdir, step, most)
  found = examples(recalled.experiment, recalled.program, recalled.state, recalled.rows)
  texts = reading.texts(recalled.experiment.data, recalled.rows)
  pictures = reading.pictures(recalled.rows)
  facts = _facts(recalled, found, recorded(workdir, step))
  for fact in facts:
    console.print(fact, markup=False)
  _print(console, recalled, found, texts)
  path = workdir / f"replay-{step}.html"
  try:
    disk.replace(path, _page(recalled, found, texts, pictures, facts))
  except OSError as error:
    raise UserError(f"{path} cannot be written: {error.strerror}.") from error
  console.print(f"page: {path}", markup=False)
  return 0


def _facts(recalled: Recalled, found: Examples, logged: dict[str, float] | None) -> list[str]:
  experiment, step, restored = recalled.experiment, recalled.step, recalled.restored
  between = step - 1 - restored
  begun = f"from the checkpoint of step {restored}" if restored else "from the first state"
  again = f", {between} step{'s' * (between != 1)} taken again" if between else ""
  passed = f"; the run had passed over {recalled.passed} batches" if recalled.passed else ""
  facts = [f"{experiment.name}, step {step} of {experiment.steps}, {begun}{again}{passed}."]
  facts.append(_against(recalled.again(), logged))
  whole = math.sqrt((found.batch_norms**2).sum())
  facts.append(
    f"{len(found.loss)} examples: loss {found.batch_loss:.5g}, gradient norm {whole:.4g} before it "
    f"is clipped; the examples' parts of it add up to {found.share.sum():.4f} of it."
  )
  return facts


def _against(replayed: dict[str, float], logged: dict[str, float] | None) -> str:
  """Whether the replayed step is the one that was logged, in words."""
  told = f"loss {replayed['loss']:.9g}"
  if logged is None:
    return f"Replayed: {told}; the run wrote no line of this step."
  both = [name for name in replayed if name in logged]
  apart = {
    name: (replayed[name], logged[name])
    for name in both
    if replayed[name] != logged[name] and not all(map(math.isnan, (replayed[name], logged[name])))
  }
  if not apart:
    return (
      f"Replayed: {told}, and all of {len(both)} values as they were logged, to the last digit."
    )
  name, (now, then) = max(apart.items(), key=lambda item: _far(*item[1]))
  return (
    f"Replayed: {told}, where {logged.get('loss', math.nan):.9g} was logged; most of all differs "
    f"{name}, {now:.9g} and {then:.9g}. Other devices, or other versions, sum in another order."
  )


def _far(a: float, b: float) -> float:
  far = abs(a - b) / max(abs(a), abs(b), 1e-30)
  return math.inf if math.isnan(far) else far


def _rows(recalled: Recalled, found: Examples) -> list[tuple[str, ...]]:
  """A line for each example, from the one that did most."""
  norms = found.norm
  return [
    (
      str(recalled.numbers[i]),
      str(recalled.epochs[i]),
      f"{found.loss[i]:.4g}",
      f"x {found.loss[i] / (found.batch_loss or math.nan):.2f}",
      f"{norms[i]:.3g}",
      f"{100 * found.share[i]:.1f} %",
      found.groups[int(found.norms[i].argmax())],
    )
    for i in found.ranked()
  ]


def _layers(found: Examples) -> list[tuple[str, str, str]]:
  """Of each group the norm of the batch's gradient, and the largest part that an example has."""
  return [
    (name, f"{found.batch_norms[g]:.3g}", f"{found.norms[:, g].max():.3g}")
    for g, name in enumerate(found.groups)
  ]


def _print(console: Console, recalled: Recalled, found: Examples, texts: Sequence[str]) -> None:
  layers = _table(("gradient norm of", "batch", "largest of an example"), _layers(found))
  console.print(layers)
  table = _table((*HEADINGS, "text"), [])
  for i, row in list(zip(found.ranked(), _rows(recalled, found)))[:PRINTED]:
    said = " ".join(texts[i].split())
    table.add_row(*map(Text, (*row, said if len(said) <= WIDTH else f"{said[:WIDTH]} ...")))
  console.print(table)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
  table = Table(box=rich.box.SIMPLE_HEAD)
  for heading in headings:
    table.add_column(heading, no_wrap=True)
  for row in rows:
    table.add_row(*map(Text, row))
  return table


def _page(
  recalled: Recalled,
  found: Examples,
  texts: Sequence[str],
  pictures: Sequence[str] | None,
  facts: Sequence[str],
) -> str:
  title = f"{recalled.experiment.name}, step {recalled.step}"
  rows = _rows(recalled, found)
  body = [f"<h1>{page.text(title)}</h1>"]
  body += [page.paragraph(page.text(fact), "status") for fact in facts]
  body += ["<h2>Which examples did most</h2>", page.table(HEADINGS, [("", row) for row in rows])]
  note = (
    "From the largest gradient down. An example's gradient is its part of the batch's; its share "
    "is what lies along the batch's, and shares add up to 1. Its loss is the mean over what it "
    "counts."
  )
  body.append(page.paragraph(page.text(note), "note"))
  layers = _layers(found)
  headings = ("gradient norm of", "batch", "largest of an example")
  body += ["<h2>By layer</h2>", page.table(headings, [("", row) for row in layers])]
  body.append("<h2>The batch</h2>")
  ranked = list(zip(found.ranked(), rows))
  if pictures is not None:
    cells = [(pictures[i], texts[i], f"{row[0]}: {row[2]}, {row[5]}") for i, row in ranked]
    body.append(page.pictures(cells))
  else:
    for i, row in ranked:
      body.append(f"<h3>{page.text(f'{row[0]}: loss {row[2]}, {row[5]} of the gradient')}</h3>")
      body.append(page.sample("", texts[i]))
  return page.page(title, body)
