"""From a command line to experiments: `file.py[:function] knob=v part.field=v`.

A word without a dot sets a knob, an argument of the file's function; a dotted word overrides a
field of the experiment that the function returned. A run folder remembers both.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import platform
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from research.errors import UserError, nearest
from research.experiment import BOOKKEEPING, Experiment, check, override

RESULTS = ("metrics.jsonl", "checkpoints", "model.npz")  # a folder without them holds no run yet
WRITES = ("model", "average")  # the fields on which what a trained model writes depends


@dataclasses.dataclass(frozen=True)
class Recipe:
  """An experiment file's function with what the command line says of it.

  Attributes:
    path: of the experiment file.
    function: name of the function in it.
    knobs: arguments for the function.
    overrides: dotted path -> value, applied to what the function returns.
  """

  path: Path
  function: str
  knobs: dict[str, Any]
  overrides: dict[str, Any]

  def experiment(self) -> Experiment:
    """The one experiment that it names; UserError when the function yields several."""
    experiments = self.experiments()
    if len(experiments) != 1:
      names = ", ".join(e.name for e in experiments[:8])
      raise UserError(
        f"{self.path}:{self.function} yields {len(experiments)} experiments ({names}); "
        "this command takes one."
      )
    return experiments[0]

  def command(self, workdir: Path) -> str:
    """The line that runs it (again)."""
    words = [f"{k}={v}" for k, v in {**self.knobs, **self.overrides}.items()]
    target = str(self.path) + (f":{self.function}" if self.function != "experiment" else "")
    return shlex.join(["research", "run", target, *words, "--workdir", str(workdir)])

  def experiments(self) -> list[Experiment]:
    """All experiments that it names, with the overrides applied to each."""
    function = functions(self.path)[self.function]
    value = function(**_checked(function, self.knobs, self.path))
    values = list(value) if isinstance(value, Iterable) else [value]
    for item in values:
      if not isinstance(item, Experiment):
        raise UserError(
          f"{self.path}:{self.function} returned {item!r}; it must return an Experiment "
          "or yield several."
        )
    return [override(item, self.overrides) for item in values]


def recipe(target: str, words: Sequence[str] = ()) -> Recipe:
  """Reads `file.py[:function]` and the `name=value` words that follow it.

  Raises:
    UserError: no such file or function, or a word that is not `name=value`.
  """
  path, _, function = target.partition(":")
  available = functions(Path(path))
  function = function or ("experiment" if "experiment" in available else "")
  if function not in available:
    raise UserError(
      f"{path} has no function {function or 'experiment'!r}.{nearest(function, available)} "
      f"It has {', '.join(available) or 'none'}."
    )
  knobs, overrides = {}, {}
  names = inspect.signature(available[function]).parameters
  for word in words:
    name, equals, text = word.partition("=")
    if not equals and word.isidentifier() and type(_default(names.get(word))) is bool:
      text = "True"  # `full` alone switches the knob on
    elif not equals or not name:
      raise UserError(f"{word!r} is not name=value; write for example steps=100.")
    target_of = overrides if "." in name or name not in names else knobs
    if name in knobs or name in overrides:
      raise UserError(f"{name} is given twice; drop one.")
    target_of[name] = literal(text)
  for name in overrides:
    if "." not in name and name not in _experiment_fields():
      known = [*names, *_experiment_fields()]
      raise UserError(
        f"{name}: {path}:{function} has no such knob.{nearest(name, known)} "
        f"Its knobs: {', '.join(names) or 'none'}; dotted names override fields "
        "(see --help)."
      )
  return Recipe(Path(path), function, knobs, overrides)


def functions(path: Path) -> dict[str, Callable[..., Any]]:
  """The public functions that an experiment file defines, by name.

  Raises:
    UserError: the file is missing, is not Python, or fails when imported; names file and line.
  """
  if not path.is_file():
    folder = path.parent if path.parent.is_dir() else Path()
    others = sorted(str(p) for p in folder.glob("*.py"))
    raise UserError(
      f"{path}: no such experiment file.{nearest(str(path), others)} "
      f"Here are {', '.join(others) or 'none'}."
    )
  if path.suffix != ".py":
    raise UserError(f"{path}: an experiment file is Python, with a name that ends in .py.")
  digest = hashlib.blake2b(str(path.resolve()).encode(), digest_size=6).hexdigest()
  name = f"research_experiment_{path.stem}_{digest}"
  if name in sys.modules:
    return _public(sys.modules[name])
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module
  sys.path.insert(0, str(path.resolve().parent))  # an ablation imports its base from its side
  try:
    spec.loader.exec_module(module)
  except UserError:
    raise
  except (SyntaxError, UnicodeDecodeError, ValueError) as error:
    line = getattr(error, "lineno", None)
    raise UserError(f"{path}{f':{line}' if line else ''}: not valid Python: {error}.") from error
  except Exception as error:  # whatever the user's own file raises is the user's to mend
    raise UserError(f"{path}:{_line(error, path)}: {type(error).__name__}: {error}.") from error
  finally:
    sys.path.pop(0)
    if sys.exc_info()[0] is not None:
      sys.modules.pop(name, None)
  return _public(module)


def literal(text: str) -> Any:
  """A Python literal (`3e-4`, `None`, `(1, 2)`); anything else is the text itself."""
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    return text


def open_run(workdir: Path) -> tuple[Experiment, dict[str, Any]]:
  """The experiment of a run folder, rebuilt from the file and words that it remembers.

  Raises:
    UserError: no run there, or the file now describes another experiment.
  """
  record = read_record(workdir)
  try:
    made = Recipe(
      Path(record["file"]),
      record["function"],
      {k: literal(v) for k, v in record["knobs"].items()},
      {k: literal(v) for k, v in record["overrides"].items()},
    )
    name, description = record["name"], record["description"]
  except (KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f"{workdir}/experiment.json lacks {error}; the run cannot be opened."
    ) from error
  for experiment in made.experiments():
    if experiment.name == name:
      break
  else:
    raise UserError(f"{made.path} no longer names the experiment {name!r} of {workdir}.")
  different = _within(differences(description, experiment.describe()), WRITES)
  if different:
    raise UserError(
      f"{made.path} has changed since {workdir} was run: {'; '.join(different[:4])}; "
      "change it back, or run it again with another --workdir."
    )
  return experiment, record


def read_record(workdir: Path) -> dict[str, Any]:
  """What `experiment.json` in a run folder says; UserError when it is missing or damaged."""
  path = Path(workdir) / "experiment.json"
  if not path.is_file():
    raise UserError(f"{workdir} holds no run (no experiment.json); give the --workdir of one.")
  try:
    return json.loads(path.read_text())
  except (ValueError, OSError) as error:
    raise UserError(f"{path} cannot be read: {error}.") from error


def check_name(experiment: Experiment) -> None:
  """UserError where the name is none of which a folder can be made."""
  if not re.fullmatch(r"\w[\w.\-]*(/\w[\w.\-]*)*", experiment.name):
    raise UserError(f"name={experiment.name!r}: use letters, digits, '_', '-' and '.'.")


def remember(workdir: Path, recipe: Recipe, experiment: Experiment) -> None:
  """Writes `experiment.json`, or checks that the run already there is of the same experiment.

  Raises:
    UserError: the folder cannot be written, or holds the run of another experiment.
  """
  path = Path(workdir) / "experiment.json"
  if path.is_file() and any((Path(workdir) / name).exists() for name in RESULTS):
    changes = differences(read_record(workdir).get("description", {}), experiment.describe())
    different = [text for text in changes if text not in _within(changes, BOOKKEEPING)]
    if different:
      more = f" and {len(different) - 3} more" if len(different) > 3 else ""
      raise UserError(
        f"{workdir} holds the run of another experiment ({'; '.join(different[:3])}{more}); "
        "give the same arguments to resume it, or another --workdir."
      )
  record = {
    "name": experiment.name,
    "file": str(recipe.path.resolve()),
    "function": recipe.function,
    "knobs": {name: repr(value) for name, value in recipe.knobs.items()},
    "overrides": {name: repr(value) for name, value in recipe.overrides.items()},
    "description": experiment.describe(),
    "command": recipe.command(workdir),
    "versions": {
      name: importlib.metadata.version(name)
      for name in ("jax", "flax", "optax", "orbax-checkpoint", "grain")
    },
    "python": platform.python_version(),
  }
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=1))
    temporary.replace(path)
  except OSError as error:
    raise UserError(
      f"{workdir} cannot be written: {error.strerror}; give another --workdir."
    ) from error


def differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
  """`path: old -> new` for every field that differs between two descriptions."""
  missing = "(none)"
  return [
    f"{path}: {old.get(path, missing)} -> {new.get(path, missing)}"
    for path in {**old, **new}
    if old.get(path) != new.get(path)
  ]


def _within(changes: list[str], fields: Sequence[str]) -> list[str]:
  """Those of `differences` that are in the named fields of an experiment."""
  return [text for text in changes if text.split(":")[0].split(".")[0] in fields]


def _public(module: Any) -> dict[str, Callable[..., Any]]:
  return {
    name: value
    for name, value in vars(module).items()
    if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
  }


def _checked(function: Callable[..., Any], knobs: dict[str, Any], path: Path) -> dict[str, Any]:
  """The knobs with their types checked against the function's defaults and annotations."""
  parameters = inspect.signature(function, eval_str=True).parameters
  for name in parameters:
    if name not in knobs and parameters[name].default is inspect.Parameter.empty:
      raise UserError(f"{path}:{function.__name__} needs {name}=...; give it on the command line.")
  checked = {}
  for name, value in knobs.items():
    default, hint = _default(parameters[name]), parameters[name].annotation
    hint = None if hint is inspect.Parameter.empty else hint
    if isinstance(default, str) and not isinstance(value, str):
      value = str(value)  # `file=2024` is a name, not a number
    if default == value and type(default) is type(value):
      raise UserError(f"{name}={value!r} changes nothing: it is the default; drop it.")
    checked[name] = check(value, default, hint, name)
  return checked


def _default(parameter: inspect.Parameter | None) -> Any:
  if parameter is None or parameter.default is inspect.Parameter.empty:
    return None
  return parameter.default


def _experiment_fields() -> Iterable[str]:
  return [field.name for field in dataclasses.fields(Experiment)]


def _line(error: BaseException, path: Path) -> int | str:
  """The last line of the experiment file in the error's traceback."""
  line, trace = "?", error.__traceback__
  while trace:
    if Path(trace.tb_frame.f_code.co_filename) == path:
      line = trace.tb_lineno
    trace = trace.tb_next
  return line
