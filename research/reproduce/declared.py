"""Which claims an experiment file declares, and which of its experiments they need."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from research import load
from research.arms import arm_of
from research.claims import Judged
from research.errors import UserError, nearest, shown
from research.experiment import Experiment


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
    UserError: an experiment that is no arm, arms of which no claim is whole, or a metric of an
      evaluation that an arm does not have: what would show only when all has run.
  """
  by_arm: dict[str, list[Experiment]] = {}
  for experiment in experiments:
    by_arm.setdefault(arm_of(experiment.name)[0], []).append(experiment)
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


def _module(recipe: load.Recipe) -> Any:
  return sys.modules[load.functions(recipe.path)[recipe.function].__module__]
