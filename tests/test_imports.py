"""The folder layout is the architecture: a file imports what is below it, nothing beside."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Floors from the ground up; a file may import from lower floors, and from its own package.
FLOORS = [
  {"errors", "memory", "secrets", "disk", "watchdog"},
  {"cluster", "forks", "guard", "init_from", "power_laws", "retention", "statistics"},
  {"claims", "distributed", "steps", "array_files"},
  {"sharding", "metrics", "preemption", "fingerprint", "lock", "stacking", "diagnosis"},
  {"mesh"},
  {"nn", "feed"},
  {"models", "objectives", "data", "optim"},
  {"lora", "overrides"},
  {"experiment"},
  {"arms", "entry", "search", "trials", "checkpoint", "log", "generate", "skipped"},
  {"evaluate", "scores", "rouge", "answers", "screen", "in_context"},
  {"bag_of_words", "matching", "flops", "fit", "microbatches", "warm_start"},
  {"placements", "text_probe", "gradient", "step"},
  {"update", "looks"},
  {"health", "fitting"},
  {"run", "side_by_side"},
  {"train", "preflight"},
  {"load", "report"},
  {"record", "parameters", "ledger"},
  {"sample", "verify", "plan", "explain", "features", "attempt"},
  {"hf", "predict", "compare", "replay"},
  {"merge", "retrieve", "sweep"},
  {"bench", "reproduce"},
  {"commands"},
  {"grammar"},
  {"cli"},
]
FLOOR = {name: i for i, floor in enumerate(FLOORS) for name in floor}
FILES = sorted((ROOT / "research").rglob("*.py"))


def room(path: Path) -> str:
  return path.relative_to(ROOT / "research").parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
  """The rooms of `research` that a file names in any import, also inside functions."""
  rooms = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "research":
      parts = node.module.split(".")
      rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    if isinstance(node, ast.Import):
      rooms |= {a.name.split(".")[1] for a in node.names if a.name.startswith("research.")}
  return rooms - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
  here = room(path)
  if here == "__init__":
    return
  wrong = {r for r in imported(path) if r != here and FLOOR[r] >= FLOOR[here]}
  assert not wrong, f"{here} imports {wrong}, which do not lie below it"


def test_models_objectives_data_and_optimizers_do_not_know_one_another():
  peers = {"models", "objectives", "data", "optim"}
  for path in FILES:
    if room(path) in peers:
      assert not imported(path) & (peers - {room(path)}), path


@pytest.mark.parametrize("word", ["utils", "common", "core", "base", "lib", "configs", "registry"])
def test_no_room_is_named_after_nothing(word):
  assert not [path for path in FILES if word in (path.stem, path.parent.name)]
