"""The arms of an ablation: one experiment varied in a few ways, each with the same few seeds.

Runs of one seed are pairs. Where arms share data and batch size they see the same batches in the
same order, and what their models have in common begins with the same values, so a difference
between two arms is judged seed by seed, where chance has been taken out of both alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from research.errors import UserError
from research.experiment import Experiment


def arms(
  base: Experiment, variants: Mapping[str, Mapping[str, Any]], seeds: int
) -> Iterator[Experiment]:
  """Every variant of `base` with every seed, named `<base>/<arm>/seed_<n>`.

  Seeds are the outer loop: after the first round there is one run of each arm to look at.

  Args:
    base: what all arms share.
    variants: by the arm's name, the dotted overrides that make it; an empty one is `base` itself.
    seeds: how many; they are 0, 1, ..., whatever the seed of `base`.

  Raises:
    UserError: a name that is not one word, an override that does not fit `base`, a variant that
      sets the seed, two variants that are the same experiment, or no seed or no variant.
  """
  if seeds < 1:
    raise UserError(f"seeds={seeds} must be at least 1.")
  if not variants:
    raise UserError(f"{base.name} has no arms; give at least one variant.")
  made = {arm: _varied(base, arm, overrides) for arm, overrides in variants.items()}
  _tell_twins(made)
  for seed in range(seeds):
    for varied in made.values():
      yield varied.vary(f"seed_{seed}", {} if varied.seed == seed else {"seed": seed})


def arm_of(name: str) -> tuple[str, int]:
  """The arm and the seed in the name of an experiment that `arms` made.

  Raises:
    UserError: the name is not of that form.
  """
  _, arm, last = ("", "", *name.split("/"))[-3:]
  seed = re.fullmatch(r"seed_(0|[1-9]\d*)", last)
  if not arm or seed is None:
    raise UserError(f"{name} is no arm of an ablation; these are called NAME/ARM/seed_N.")
  return arm, int(seed[1])


def _varied(base: Experiment, arm: str, overrides: Mapping[str, Any]) -> Experiment:
  if not re.fullmatch(r"\w[\w.\-]*", arm):
    raise UserError(f"arm {arm!r}: its name is one word of letters, digits, '_', '-' and '.'.")
  if "seed" in overrides:
    raise UserError(f"arm {arm!r} sets the seed, which all arms share; give `seeds` instead.")
  return base.vary(arm, overrides)


def _tell_twins(made: Mapping[str, Experiment]) -> None:
  """UserError where two arms differ in nothing: their difference would be none, and mean none."""
  seen: dict[tuple[tuple[str, str], ...], str] = {}
  for arm, experiment in made.items():
    described = experiment.describe()
    del described["name"]
    twin = seen.setdefault(tuple(described.items()), arm)
    if twin != arm:
      raise UserError(f"arms {twin!r} and {arm!r} are the same experiment; drop one.")
