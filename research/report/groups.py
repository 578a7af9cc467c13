"""Runs that differ in nothing but their seed, as one: an arm of an ablation, a point of a sweep."""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from research import statistics
from research.experiment import BOOKKEEPING
from research.log import lines
from research.log.lines import Line
from research.report.run import Run
from research.statistics import Interval

UNSEEN = ("every", "rows", "batch_size")  # fields of an evaluation that change no result
NO_MEASURE = ("step", "time", "split", "standard_error", "chance", "interval", "n")


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs of one experiment with several seeds.

  Attributes:
    name: of the experiment, without what all groups have in common, and without the seed.
    runs: in the order of their seeds.
  """

  name: str
  runs: tuple[Run, ...]

  def each(self, value: Callable[[Run], float]) -> np.ndarray:
    """A value of every run, (runs,), without those that are not finite."""
    found = np.array([value(run) for run in self.runs], float)
    return found[np.isfinite(found)]

  def mean(self, value: Callable[[Run], float]) -> Interval:
    """Over the runs, with its interval: without ends where fewer than two have the value."""
    found = self.each(value)
    if len(found) > 1:
      return statistics.mean(found)
    only = float(found[0]) if len(found) else math.nan
    return Interval(only, math.nan, math.nan, len(found))

  def curve(self, evaluation: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps (S,) at which any run was evaluated, and values (runs, S), NaN where one was not."""
    found = [
      {line["step"]: lines.number(line.get(key)) for line in run.evaluations.get(evaluation, [])}
      for run in self.runs
    ]
    steps = sorted({step for values in found for step in values})
    values = [[values.get(step, math.nan) for step in steps] for values in found]
    return np.array(steps, float), np.array(values, float).reshape(len(found), len(steps))


def differences(one: Group, other: Group, value: Callable[[Run], float]) -> np.ndarray:
  """What `other` has more than `one`, in each seed that both have: the pairs of an ablation."""
  theirs = {seed(run): value(run) for run in other.runs}
  found = np.array([theirs.get(seed(run), math.nan) - value(run) for run in one.runs], float)
  return found[np.isfinite(found)]


def grouped(runs: Iterable[Run]) -> list[Group]:
  """Groups in the order of their first runs; two that would have one name are told apart."""
  found: dict[tuple[tuple[tuple[str, str], ...], int], list[Run]] = {}
  copies: collections.Counter = collections.Counter()
  for run in runs:
    key = _without_seed(run)
    again = copies[key, seed(run)]  # the same seed once more is no further seed
    copies[key, seed(run)] += not math.isnan(seed(run))
    found.setdefault((key, again), []).append(run)
  names = [re.sub(r"/seed_\d+$", "", members[0].name) for members in found.values()]
  common = _common([name.split("/") for name in names])
  groups: list[Group] = []
  for name, members in zip(names, found.values(), strict=True):
    name = "/".join(name.split("/")[common:])
    same = sum(group.name.split(" #")[0] == name for group in groups)
    members = sorted(members, key=seed)
    groups.append(Group(f"{name} #{same + 1}" if same else name, tuple(members)))
  return groups


def seed(run: Run) -> float:
  """Of the run, NaN where it is not told."""
  return lines.number(run.experiment["description"].get("seed"))


def measured(run: Run) -> dict[str, float]:
  """ "<evaluation>.<value>" -> what the newest evaluation of that name measured."""
  return {
    f"{name}.{key}": lines.number(value)
    for name, found in run.evaluations.items()
    for key, value in (found[-1] if found else {}).items()
    if key not in NO_MEASURE and isinstance(value, int | float | str)
  }


def outcome(found: Iterable[Group], metric: str) -> Callable[[Run], float]:
  """What a run measured at its end; NaN for one that is on its way where others have ended.

  A loss halfway stands beside no final one, neither in a mean nor as half of a pair.
  """
  some = any(run.ended for group in found for run in group.runs)
  return lambda run: measured(run).get(metric, math.nan) if run.ended or not some else math.nan


def parameters(run: Run) -> float:
  """Of its model, NaN where they were not counted."""
  return lines.number(run.facts.get("parameters"))


def tokens(run: Run) -> float:
  """That it has seen in training, NaN where they were not counted."""
  last: Line = run.train[-1] if run.train else {}
  return lines.number(last.get("tokens"))


def flops(run: Run) -> float:
  """Of all its training steps, NaN where they were not counted."""
  return lines.number(run.facts.get("flops_per_step")) * (run.step or math.nan)


def seconds(run: Run) -> float:
  """From its start to its end, with everything beside training."""
  return run.seconds or math.nan


def evaluated(description: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
  """The fields of the evaluations `names` in a description that change what they measure."""
  return {
    path: str(text)
    for path, text in description.items()
    if not _left_out(path) and path.split(".")[0] == "evals" and path.split(".")[1] in names
  }


def differing(runs: Sequence[Run]) -> list[str]:
  """Dotted paths of the fields in which these runs differ, without name, seed and bookkeeping.

  Where parts are of different kinds, the fields that only one kind has are left out, but for those
  that differ among its runs.
  """
  described = [dict(_without_seed(run)) for run in runs]
  paths = {path: None for fields in described for path in fields}
  found = [path for path in paths if len({fields.get(path) for fields in described}) > 1]

  def follows(path: str) -> bool:
    values = [fields[path] for fields in described if path in fields]
    alone = len(values) < len(runs) and len(set(values)) == 1
    return alone and any(path.startswith(f"{part}.") for part in found)

  return [path for path in found if not follows(path)]


def _without_seed(run: Run) -> tuple[tuple[str, str], ...]:
  description = run.experiment["description"] or {"name of no experiment": run.name}
  return tuple((path, str(text)) for path, text in description.items() if not _left_out(path))


def _left_out(path: str) -> bool:
  """Whether a field says nothing of what is measured."""
  parts = path.split(".")
  if parts[0] == "evals":  # arms can differ in what they are asked
    return parts[-1] in UNSEEN
  return parts[0] in ("name", "seed", *BOOKKEEPING)


def _common(paths: list[list[str]]) -> int:
  """How many parts all begin with; of each, at least one stays."""
  count = 0
  while all(len(path) > count + 1 for path in paths) and len({path[count] for path in paths}) == 1:
    count += 1
  return count
