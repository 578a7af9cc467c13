"""Which claims an experiment file declares, and which of its experiments they need."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from research import entry, load, report, secrets
from research.arms import arm_of
from research.claims import Judged
from research.errors import UserError, nearest, shown
from research.experiment import Experiment
from research.report import groups


def claims(recipe: load.Recipe) -> tuple[Judged, ...]:
  """The `CLAIMS` of the recipe's file.

  Raises:
    UserError: it declares none, or something else than claims, or two of one name.
  """
  found = getattr(_module(recipe), "CLAIMS", None)
  if not found:
    raise UserError(
      f"{recipe.path} declares no claims; say what a paper says as CLAIMS = (Claim(...), ...), "
      "or use `research sweep`, which only runs."
    )
  found = tuple(found) if isinstance(found, Sequence) else (found,)
  for claim in found:
    if not isinstance(claim, Judged):
      raise UserError(f"{recipe.path}: CLAIMS holds {shown(claim)}, which is no claim.")
  names = [claim.name for claim in found]
  for name in names:
    if names.count(name) > 1:
      raise UserError(f"{recipe.path}: two claims have the name {name!r}; give one another.")
  return found


def about(recipe: load.Recipe) -> str:
  """The first paragraph of the docstring of the recipe's file."""
  return (_module(recipe).__doc__ or "").strip().split("\n\n")[0]


def needed(claims: Sequence[Judged], experiments: Sequence[Experiment]) -> list[Experiment]:
  """The experiments whose arms some claim needs, in their order.

  A function of a file may leave out arms, and with them claims: those are then inconclusive.

  Raises:
    UserError: an experiment that is no arm, or has another seed than its name says, two of one arm
      and seed, arms of which no claim is whole, or a metric of an evaluation that an arm does not
      have: what would show only when all has run.
  """
  by_arm: dict[str, list[Experiment]] = {}
  names: dict[tuple[str, int], str] = {}
  for experiment in experiments:
    arm, seed = arm_of(experiment.name)
    by_arm.setdefault(arm, []).append(experiment)
    if experiment.seed != seed:
      raise UserError(
        f"{experiment.name} has seed={experiment.seed}: runs of one seed under several names would "
        "count as several; leave seed=... out."
      )
    other = names.setdefault((arm, seed), experiment.name)
    if other != experiment.name:
      raise UserError(
        f"{other} and {experiment.name} are of one arm and seed, so that a claim cannot tell them "
        "apart; give the arms of one of the two other names."
      )
  whole = [claim for claim in claims if set(claim.arms()) <= by_arm.keys()]
  if not whole:
    lacking = next(arm for arm in claims[0].arms() if arm not in by_arm)
    raise UserError(
      f"no claim has all of its arms: {claims[0].name} needs {lacking!r}."
      f"{nearest(lacking, by_arm)} The function names {', '.join(by_arm)}."
    )
  wanted = {arm for claim in whole for arm in claim.arms()}
  for claim in whole:
    evaluation = claim.metric.rpartition(".")[0]
    for experiment in (e for arm in claim.arms() for e in by_arm[arm]):
      if evaluation not in experiment.evals:
        raise UserError(
          f"{claim.name}: {experiment.name} has no evaluation {evaluation!r}, of which the claim's "
          f"metric is.{nearest(evaluation, experiment.evals)} "
          f"It has {', '.join(experiment.evals) or 'none'}."
        )
  return [e for e in experiments if arm_of(e.name)[0] in wanted]


def check_evaluated(
  claims: Sequence[Judged], experiments: Sequence[Experiment], workdir: Path
) -> None:
  """Raises a UserError for a run in `workdir` that is done, and was evaluated in another way.

  How a run is evaluated does not change what it is (`entry.identity`), so that it is not run again;
  but its figures do not stand beside those of runs that are evaluated as the file now says.
  """
  wanted = {claim.metric.rpartition(".")[0] for claim in claims}
  for experiment in experiments:
    folder = workdir / experiment.name
    about = entry.read(folder)
    if about is None or (about.state, about.identity) != (entry.DONE, entry.of(experiment)):
      continue
    then = groups.evaluated(report.read(folder).experiment["description"], wanted)
    now = groups.evaluated(secrets.describe(experiment.describe()), wanted)
    for path, value in now.items():
      new = path.count(".") > 1  # a field of an evaluation, which the code then may not have had
      if (before := then.get(path, value if new else "nothing")) != value:
        raise UserError(
          f"{folder} is done, and was evaluated with {path}={before}, for which the file now says "
          f"{value}; say as before, or give another --workdir."
        )


def _module(recipe: load.Recipe) -> Any:
  return sys.modules[load.functions(recipe.path)[recipe.function].__module__]
