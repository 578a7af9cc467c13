"""The verdicts as a table in a terminal, or as plain lines in a file."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from research.claims import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from research.reproduce import words
from research.reproduce.judged import Study

STYLES = {REPRODUCED: "bold green", NOT_REPRODUCED: "bold red", INCONCLUSIVE: "yellow"}


def show(study: Study, console: Console | None = None) -> None:
  """Prints every claim with its verdict, and why."""
  console = console or Console(highlight=False, soft_wrap=False)
  table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
  for name in ("claim", "verdict"):
    table.add_column(name, no_wrap=True)
  for name in ("effect", "95 % interval", "could see", "paper"):
    table.add_column(name, justify="right", overflow="fold")
  for judgement in study.judgements:
    verdict = judgement.verdict
    table.add_row(
      Text(judgement.claim.name),
      Text(verdict.outcome, STYLES[verdict.outcome]),
      words.effect(verdict),
      words.interval(verdict),
      words.seen(verdict),
      words.marked(verdict),
    )
  console.print(table)
  console.print()
  for judgement in study.judgements:
    claim, verdict = judgement.claim, judgement.verdict
    line = Text.assemble((claim.name, "bold"), f"  {claim.paper}, {claim.where}: {claim.sentence}")
    console.print(line)
    console.print(Text(f"  {verdict.outcome} at this scale. {verdict.reason}"))
    if verdict.means:
      console.print(Text(f"  Effect: {verdict.means}.", "dim"))
    if words.elsewhere(verdict):
      console.print(Text(f"  * In the paper: {words.paper(verdict)}.", "dim"))
    for name, said in verdict.facts:
      console.print(Text(f"  {name}: {said}", "dim"))
  console.print()
  console.print(Text(f"{study.counts()}. {words.by_luck(len(study.judgements))}"))
