"""Runs what the claims of a file need and is missing, and judges them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from research import load, sweep
from research.claims import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Judged, Results, Verdict
from research.report.run import Run
from research.reproduce import declared, outcomes


@dataclasses.dataclass(frozen=True)
class Judgement:
  """A claim, and what the runs say about it."""

  claim: Judged
  verdict: Verdict


@dataclasses.dataclass(frozen=True)
class Study:
  """All claims of a file with their verdicts, and what these rest on.

  Attributes:
    title: of the page: the file's name, and the function's where it is not `experiment`.
    about: the file's docstring.
    command: the line that does it again, or goes on.
    judgements: in the file's order.
    results: what was measured.
    runs: by arm and seed.
    complete: whether nothing was stopped.
  """

  title: str
  about: str
  command: str
  judgements: tuple[Judgement, ...]
  results: Results
  runs: dict[str, dict[int, Run]]
  complete: bool

  def counts(self) -> str:
    """For example "3 reproduced, 1 not reproduced, 2 inconclusive"."""
    found = Counter(judgement.verdict.outcome for judgement in self.judgements)
    words = ((REPRODUCED, "reproduced"), (NOT_REPRODUCED, "not reproduced"))
    words += ((INCONCLUSIVE, "inconclusive"),)
    return ", ".join(f"{found[kind]} {word}" for kind, word in words if found[kind])


def reproduce(recipe: load.Recipe, workdir: Path, *, workers: int | None = None) -> Study:
  """Runs in `workdir`/<name of the experiment> what is not done there, and judges the claims.

  Arms that no claim needs are not run. A failed run ends nothing: the claims that need it are
  inconclusive.

  Raises:
    UserError: see `declared`; nothing has run then.
  """
  claims = declared.claims(recipe)
  experiments = declared.needed(claims, recipe.experiments())
  declared.check_evaluated(claims, experiments, workdir)
  swept = sweep.sweep(recipe, experiments, workdir, workers=workers)
  results, runs = outcomes.results(list(swept.rows))
  function = "" if recipe.function == "experiment" else f" {recipe.function}"
  return Study(
    title=f"{recipe.path.stem}{function}",
    about=declared.about(recipe),
    command=recipe.command(workdir).replace("research run", "research reproduce", 1),
    judgements=tuple(Judgement(claim, claim.judge(results)) for claim in claims),
    results=results,
    runs=runs,
    complete=not swept.stopped,
  )
