"""`research plan`: traces, compiles or searches, prints what it came to, and leaves a page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from research import load
from research.errors import UserError
from research.experiment import Experiment
from research.plan import compiler, page, text, topology
from research.plan.result import Plan
from research.plan.search import Candidate, Search
from research.plan.topology import Topology
from research.plan.tracing import Tracing

SHOWN = 10  # candidates of a search
FIXES = 3


def run(
  target: str,
  words: Sequence[str],
  *,
  topologies: str,
  tokens: str | None = None,
  search: bool = False,
  estimate: bool = False,
  price: float | None = None,
  options: Sequence[str] = (),
  timeout: float = 900.0,
  out: Path | None = None,
) -> int:
  """Plans every experiment of a file for every topology; 0 where all fit, 1 where one does not.

  Args:
    target, words: as for `research run`.
    topologies: one or several, joined by commas.
    tokens: the budget, as in 300B.
    search: look for the fastest mesh, remat policy and microbatches, and compile nothing.
    estimate: compile nothing.
    price: dollars for a device and hour, in place of the list price.
    options: of the compiler, name=value.
    timeout: seconds for a compilation.
    out: folder for the pages.

  Raises:
    UserError: something that is not known, does not fit the devices, or cannot be compiled.
  """
  recipe = load.recipe(target, words)
  machines = [topology.parse(name) for name in topologies.split(",")]
  budget = None if tokens is None else count(tokens)
  fit = True
  for number, experiment in enumerate(recipe.experiments()):
    if experiment.optimizer is None:
      raise UserError(
        f"{experiment.name} is counted, not trained on devices; plan an experiment with an "
        "optimizer."
      )
    for machine in machines:
      compiled = None
      searching = Search(Tracing(experiment, machine.devices), machine)
      if not (search or estimate):
        request = compiler.Request(
          target, tuple(words), number, machine, _options(options), timeout
        )
        compiled = compiler.compile_for(request)
      plan = _plan(experiment, machine, searching, compiled, search, budget, price)
      print("\n".join(text.lines(plan)))
      print(f"page: {write(plan, out or Path('runs/plans'))}\n")
      fit = fit and plan.fits
  return 0 if fit else 1


def _plan(
  experiment: Experiment,
  machine: Topology,
  searching: Search,
  compiled: compiler.Compiled | None,
  search: bool,
  tokens: float | None,
  price: float | None,
) -> Plan:
  plan = Plan(
    experiment.name,
    machine,
    searching.traced,
    compiled,
    tokens,
    experiment.steps,
    machine.chip.price if price is None else price,
  )
  best: list[Candidate] = searching.best()[:SHOWN] if search else []
  fixes = [] if plan.fits or search else searching.fixes()[:FIXES]
  said = {i: candidate.words(experiment) for i, candidate in enumerate(best or fixes)}
  return Plan(
    plan.name, machine, plan.traced, compiled, tokens, plan.steps, plan.price, fixes, best, said
  )


def write(plan: Plan, folder: Path) -> Path:
  """Leaves the page, and beside it everything as JSON."""
  name = re.sub(r"[^\w.\-]+", "_", f"{plan.name}_{plan.topology}")
  path = folder / f"{name}.html"
  try:
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(page.html(plan), encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(plan.as_json(), indent=1), encoding="utf-8")
  except OSError as error:
    raise UserError(
      f"{folder} cannot be written: {error.strerror}; give another folder with --out."
    ) from error
  return path


def count(said: str) -> float:
  """`300B`, `1.4T`, `5e9`."""
  found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)([KMBT]?)", said.strip(), re.IGNORECASE)
  value = (
    float(found[1]) * {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[found[2].upper()]
    if found
    else 0
  )
  if value <= 0:
    raise UserError(f"--tokens {said}: write a number of tokens as in 300B, 1.4T or 5e9.")
  return value


def _options(words: Sequence[str]) -> Mapping[str, str]:
  options = {}
  for word in words:
    name, equals, value = word.partition("=")
    if not equals or not name.startswith("xla_"):
      raise UserError(f"--option {word}: write one of the compiler's as in xla_name=value.")
    options[name] = value
  return options
