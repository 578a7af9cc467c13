"""An experiment made small: the same structure in fewer layers, heads, words, positions and rows.

There is always something to divide: two heads, two layers of each kind, words by the eight.

Sizes are known by the names of their fields, in the model and in the data: depth, width, heads,
kv_heads, hidden, vocab_size, max_length, windows, length, limit. A model of other names, or one
whose numbers then no longer fit, keeps its own size.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from research.errors import UserError
from research.experiment import Experiment
from research.overrides import fields, override

WIDTH, HEADS, LENGTH, WORDS = 64, 4, 32, 512
ROWS, STEPS, TEXT_BYTES = 16, 12, 200_000
DECAY = 0.25  # of the steps, where the experiment's own share of so few is none


def small(experiment: Experiment, fits: Callable[[Experiment], Any]) -> tuple[Experiment, str]:
  """A small twin that `fits` takes without an error, and one line that says what was changed.

  Raises:
    UserError: not even the experiment as it is fits.
  """
  run = {**_of_run(experiment), **_of_optimizer(experiment)}
  data, model = _of_data(experiment.data), _of_model(experiment)
  kept = ""
  for changes in ({**run, **data, **model}, {**run, **data}, run):
    try:
      made = override(experiment, _that_differ(experiment, changes))
      fits(made)
    except Exception as error:
      if changes is run:
        raise
      kept = kept or f"; kept at its own size, because smaller: {first_line(error)}"
      continue
    shown = [f"{path} {old} -> {new}" for path, old, new in _differences(experiment, changes)]
    return made, ", ".join(shown or ["nothing to shrink"]) + kept
  raise AssertionError("the last try returns or raises")


def first_line(error: BaseException) -> str:
  """An error in one line: what it says, after its type where it is not the user's own."""
  text = (str(error).strip() or "no message").splitlines()[0][:200]
  return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def walk(value: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
  """(dotted path, name, value) of every field under a component, at any depth."""
  for name, part in (fields(value) or {}).items():
    whole = f"{path}.{name}" if path else name
    yield whole, name, part
    yield from walk(part, whole)


def found(experiment: Experiment, part: str, name: str) -> dict[str, Any]:
  """The fields called `name` under a part of an experiment, by their dotted paths."""
  return {path: x for path, n, x in walk(getattr(experiment, part), part) if n == name}


def _of_run(experiment: Experiment) -> dict[str, Any]:
  return {"batch_size": ROWS, "microbatches": 1, "save_every": 1, "log_every": 1}


def _of_optimizer(experiment: Experiment) -> dict[str, Any]:
  """A run of a few steps, a warmup that is over before its end, and a decay of at least one."""
  changes = {"steps": STEPS}
  for path, warmup in found(experiment, "optimizer", "warmup").items():
    changes[path] = min(warmup, 2)
  shares = found(experiment, "optimizer", "decay").items()
  decays = {path: DECAY for path, share in shares if isinstance(share, float)}
  for tried in (changes, {**changes, **decays}):
    with contextlib.suppress(UserError):  # a schedule of other terms
      override(experiment, _that_differ(experiment, tried)).optimizer.build(STEPS)
      return tried
  return {}


def _of_data(data: Any) -> dict[str, Any]:
  least = {"length": LENGTH, "vocab_size": WORDS, "limit": TEXT_BYTES}
  return {
    path: least[name] if value is None else min(value, least[name])
    for path, name, value in walk(data, "data")
    if name in least and (name == "limit" or type(value) is int)
  }


def _of_model(experiment: Experiment) -> dict[str, Any]:
  names = {name for _, name, _ in walk(experiment.data)}
  changes = {}
  for path, component in [("model", experiment.model), *_components(experiment.model, "model")]:
    parts = fields(component) or {}
    for name, value in _sizes(parts, names).items():
      changes[f"{path}.{name}"] = value
  return changes


def _components(value: Any, path: str) -> list[tuple[str, Any]]:
  return [(at, part) for at, _, part in walk(value, path) if fields(part) is not None]


def _sizes(parts: Mapping[str, Any], of_data: set[str]) -> dict[str, Any]:
  """Smaller sizes for one component, each dividing what it has to."""
  is_number = {name for name, value in parts.items() if type(value) is int}
  sizes: dict[str, Any] = {}
  width = parts["width"] if "width" in is_number else None
  if width is not None:
    sizes["width"] = width = WIDTH if width > WIDTH else width
  if "heads" in is_number:
    fitting = [n for n in range(1, HEADS + 1) if width is None or width % n == 0]
    sizes["heads"] = max(n for n in fitting if n <= max(2, parts["heads"]))
    if "kv_heads" in is_number:
      groups = max(1, parts["heads"] // parts["kv_heads"])
      sizes["kv_heads"] = max(1, sizes["heads"] // groups)
  if "hidden" in is_number:
    sizes["hidden"] = min(parts["hidden"], 2 * (width or WIDTH))
  windows = parts.get("windows") or ()
  if windows and isinstance(windows, tuple):
    sizes["windows"] = tuple(w if w is None else min(w, LENGTH // 4) for w in windows)
  if "depth" in is_number:
    # Two of every kind of layer, which is also what two stages of a pipeline can share.
    sizes["depth"] = 2 * max(1, len(windows))
  if "vocab_size" in is_number:
    words = min(parts["vocab_size"], WORDS) if "vocab_size" in of_data else parts["vocab_size"]
    sizes["vocab_size"] = -(-words // 8) * 8  # a padded table can be split over devices
  if "max_length" in is_number and "length" in of_data:
    sizes["max_length"] = min(parts["max_length"], LENGTH)
  return sizes


def _differences(experiment: Experiment, changes: dict[str, Any]) -> list[tuple[str, Any, Any]]:
  before = {path: value for path, _, value in walk(experiment)}
  quiet = ("save_every", "log_every")
  return [
    (path, before[path], new)
    for path, new in changes.items()
    if before[path] != new and path not in quiet
  ]


def _that_differ(experiment: Experiment, changes: dict[str, Any]) -> dict[str, Any]:
  before = {path: value for path, _, value in walk(experiment)}
  return {path: new for path, new in changes.items() if before[path] != new}


def bare(experiment: Experiment) -> Experiment:
  """The model as it is made: without what only writes, another run to start from, and adapters.

  All of it is trained, so that all of its gradient can be compared.
  """
  groups = getattr(experiment.optimizer, "groups", None)
  if groups is not None and groups.frozen:
    experiment = override(experiment, {"optimizer.groups.frozen": ()})
  return dataclasses.replace(experiment, samples=None, baselines={}, init_from=None, adapters=None)
