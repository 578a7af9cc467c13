"""Planted: pairs of arms that are the same experiment, and what is said of them.

python -m tests.planted --workdir DIR                   # 100 trials of three seeds: 600 runs
python -m tests.planted --workdir DIR --trials 20 --steps 20

Each trial compares two equal arms, trained with seeds of their own, and must not find one better:
in at most 8 of 100 trials. Then the losses of one arm are raised by the effect that is said to be
seen with so many seeds, given the noise of all pairs; it must be found in 80 of 100 trials, as far
as so many trials can tell. The models are tiny and really trained, many seeds in one program. Run
again, it goes on; it exits with 1 where either fails.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np

from research import Claim, entry, load, report, statistics
from research.attempt import attempt_together
from research.claims import REPRODUCED, Outcome, Results
from research.report import groups

METRIC = "heldout.loss"
TOGETHER = 60  # seeds that one program trains
NULL = Claim(
  "null",
  paper="nobody",
  where="nowhere",
  sentence="One of two equal arms is better.",
  better="one",
  worse="other",
  metric=METRIC,
)

FILE = '''"""Many seeds of one tiny model."""

import dataclasses

from research import Trials
from research.arms import arms
from tiny_experiment import experiment as tiny


def experiment(text, steps, seeds, together):
  base = dataclasses.replace(tiny(text, steps), save_every=steps, log_every=steps)
  made = list(arms(base, {"one": {}}, seeds))
  for first in range(0, seeds, together):
    yield Trials(made[first : first + together])
'''


def main() -> int:
  """The exit code."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--workdir", type=Path, required=True)
  parser.add_argument("--trials", type=int, default=100)
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--steps", type=int, default=40)
  options = parser.parse_args()
  losses = trained(options.workdir, options.trials * 2 * options.seeds, options.steps)
  return judged(losses.reshape(options.trials, 2, options.seeds))


def trained(workdir: Path, seeds: int, steps: int) -> np.ndarray:
  """The held-out losses of so many runs, (seeds,)."""
  workdir.mkdir(parents=True, exist_ok=True)
  text, file = workdir / "text.txt", workdir / "pool.py"
  words = ("cat", "dog", "mat", "hat", "sat", "ran", "saw", "the", "and", "by", "on", "red")
  drawn = np.random.default_rng(0).choice(words, size=(500, 8))
  text.write_text("\n".join(" ".join(line) for line in drawn) + "\n")
  file.write_text(FILE)
  sys.path.insert(0, str(Path(__file__).parent))  # of the tiny experiment
  given = {"text": text.resolve(), "steps": steps, "seeds": seeds, "together": TOGETHER}
  recipe = load.recipe(str(file), [f"{name}={value}" for name, value in given.items()])
  losses = []
  for program in recipe.programs():
    folders = {workdir / experiment.name: experiment for experiment in program}
    found = [entry.read(folder) for folder in folders]
    if not all(one is not None and one.state == entry.DONE for one in found):
      attempt_together(recipe, folders)
    losses += [groups.measured(report.read(folder))[METRIC] for folder in folders]
    print(f"{len(losses)} of {seeds} trained", flush=True)
  return np.array(losses)


def judged(losses: np.ndarray) -> int:
  """Prints how often an arm was called better; the exit code.

  Args:
    losses: (trials, two arms, seeds).
  """
  trials, _, seeds = losses.shape
  pairs = losses[:, 1] - losses[:, 0]
  noise = float(pairs.std())  # of all: the true one, as near as these runs know it
  effect = statistics.detectable(noise, seeds)
  null, found = _called_better(losses), _called_better(losses + np.array([[0.0], [effect]]))
  # What 99 of 100 repetitions of the whole would reach, were the shares 2.5 and 80 %.
  least = 0.8 - 2.33 * math.sqrt(0.8 * 0.2 / trials)
  print(f"{trials} pairs of equal arms, {seeds} seeds each: a pair's noise is {noise:.4g} nats")
  print(f"called better without an effect: {null} of {trials} (at most 8 of 100 may be)")
  print(f"an effect of {effect:.4g} found: {found} of {trials} (80 of 100 should be)")
  return int(null > 0.08 * trials or found < least * trials)


def _called_better(losses: np.ndarray) -> int:
  verdicts = [
    NULL.judge(
      Results(
        {
          name: {seed: Outcome({METRIC: loss}) for seed, loss in enumerate(arm)}
          for name, arm in zip(("one", "other"), trial, strict=True)
        }
      )
    )
    for trial in losses.tolist()
  ]
  return sum(verdict.outcome == REPRODUCED for verdict in verdicts)


if __name__ == "__main__":
  sys.exit(main())
