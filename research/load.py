"""From a command line to experiments: `file.py[:function] knob=v part.field=v`.

A word without a dot sets a knob, an argument of the file's function; a dotted word overrides a
field of the experiment that the function returned. A run folder remembers both.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib.util
import inspect
import itertools
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from research import search, secrets
from research.errors import RunError, UserError, nearest, reason, shown
from research.experiment import Experiment
from research.overrides import check, override_each
from research.preflight import parts
from research.trials import Trials

MOST = 10_000  # experiments that a function may yield; more are a loop that does not end
LISTED = 12  # files or functions that are named where one was not found

Change = Callable[[Sequence[Experiment], Mapping[str, Any]], list[Experiment]]


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
    """The line that runs it (again), without the secrets in it."""
    words = [f"{k}={v}" for k, v in {**self.knobs, **self.overrides}.items()]
    target = str(self.path) + (f":{self.function}" if self.function != "experiment" else "")
    return secrets.command(["research", "run", target, *words, "--workdir", str(workdir)])

  def experiments(self, change: Change = override_each) -> list[Experiment]:
    """All experiments that it names, each changed by the overrides."""
    return [item for program in self.programs(change) for item in program]

  def programs(self, change: Change = override_each) -> list[tuple[Experiment, ...]]:
    """The same, with those in one tuple that one program is to train (`Trials`)."""
    function = _function(self.path, self.function)
    knobs = search.asked(_checked(function, self.knobs, self.path))
    made = [
      tuple(search.numbered(item, knobs) for item in program)
      for program in _called(function, knobs, self.path)
    ]
    changed = change(list(itertools.chain.from_iterable(made)), self.overrides)
    names: set[str] = set()
    for item in changed:
      parts(item)
      if item.name in names:
        raise UserError(
          f"{self.path}:{self.function} yields two experiments with the name {item.name!r}; each "
          "has a folder of its name, so give them different ones."
        )
      names.add(item.name)
    left = iter(changed)
    return [tuple(itertools.islice(left, len(program))) for program in made]


def recipe(target: str, words: Sequence[str] = ()) -> Recipe:
  """Reads `file.py[:function]` and the `name=value` words that follow it.

  Raises:
    UserError: no such file or function, or a word that is not `name=value`.
  """
  path, _, function = target.partition(":")
  function = function or "experiment"
  knobs, overrides = {}, {}
  names = inspect.signature(_function(Path(path), function)).parameters
  for word in words:
    name, equals, text = word.partition("=")
    if not equals and word.isidentifier() and type(_default(names.get(word))) is bool:
      text = "True"  # `full` alone switches the knob on
    elif not equals or not name:
      raise UserError(f"{shown(word)} is not name=value; write for example steps=100.")
    target_of = overrides if "." in name or name not in names else knobs
    if name in knobs or name in overrides:
      raise UserError(f"{name} is given twice; drop one.")
    target_of[name] = literal(text)
  for name, value in knobs.items():
    default = _default(names[name])
    value = str(value) if isinstance(default, str) else value
    if type(default) is type(value) and default == value:
      raise UserError(f"{name}={shown(value)} changes nothing: it is the default; drop it.")
  for name in overrides:
    if "." not in name and name not in _experiment_fields():
      raise UserError(_no_knob(name, f"{path}:{function}", names))
  return Recipe(Path(path), function, knobs, overrides)


def functions(path: Path) -> dict[str, Callable[..., Any]]:
  """The public functions that an experiment file defines, by name.

  Raises:
    UserError: the file is missing, is not Python, or fails when imported; names file and line.
  """
  try:
    there = path.exists()
  except OSError as error:
    raise UserError(f"{str(path)[:80]!r} cannot be a file: {error.strerror}.") from error
  if there and path.suffix != ".py":
    raise UserError(f"{path}: an experiment file is Python, with a name that ends in .py.")
  if not path.is_file():
    folder = path.parent if path.parent.is_dir() else Path()
    others = sorted(str(p) for p in folder.glob("*.py"))
    raise UserError(
      f"{path}: no such experiment file.{nearest(str(path), others)} Here are {_listed(others)}."
    )
  digest = hashlib.blake2b(str(path.resolve()).encode(), digest_size=6).hexdigest()
  name = f"research_experiment_{path.stem}_{digest}"
  if name in sys.modules:
    return _public(sys.modules[name])
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module
  side = path.resolve().parent
  # An ablation imports its base from its side, or from the folder above, whose names come last.
  sys.path[:] = [str(side), *sys.path, str(side.parent)]
  try:
    spec.loader.exec_module(module)
  except (SyntaxError, UnicodeDecodeError) as error:
    place = Path(getattr(error, "filename", None) or path).name  # it may be of a file beside it
    line = getattr(error, "lineno", None)
    raise UserError(
      f"{path.parent / place}{f':{line}' if line else ''}: not valid Python: {error}."
    ) from error
  except (Exception, SystemExit) as error:  # whatever the user's own file does is the user's
    raise _failed(error, path, "importing the file") from error
  finally:
    sys.path.remove(str(side))
    del sys.path[-1 - sys.path[::-1].index(str(side.parent))]
    if sys.exc_info()[0] is not None:
      sys.modules.pop(name, None)
  return _public(module)


def literal(text: str) -> Any:
  """A Python literal (`3e-4`, `None`, `(1, 2)`); anything else is the text itself."""
  try:
    with warnings.catch_warnings(action="ignore"):  # of what only looks like Python
      return ast.literal_eval(text)
  except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
    return text


def _function(path: Path, name: str) -> Callable[..., Any]:
  available = functions(path)
  if name not in available:
    raise UserError(
      f"{path} has no function {name!r}.{nearest(name, available)} It has {_listed(available)}."
    )
  return available[name]


def _called(
  function: Callable[..., Any], knobs: dict[str, Any], path: Path
) -> list[tuple[Experiment, ...]]:
  """The experiments that the user's function returns or yields, those of `Trials` in one tuple.

  Raises:
    UserError: it fails, with the line of the file; or what it returns is something else.
  """
  try:
    value = function(**knobs)
    several = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    made = list(itertools.islice(value, MOST + 1)) if several else [value]
  except (Exception, SystemExit) as error:  # whatever the user's own function does is the user's
    given = ", ".join(f"{name}={shown(value)}" for name, value in knobs.items())
    raise _failed(error, path, f"{function.__name__}({given})") from error
  if len(made) > MOST:
    raise UserError(f"{path}:{function.__name__} yields more than {MOST:,} experiments; end it.")
  if not made:
    raise UserError(f"{path}:{function.__name__} yields no experiment; let it yield one or more.")
  for item in made:
    if not isinstance(item, Experiment | Trials):
      raise UserError(
        f"{path}:{function.__name__} returned {shown(item)}; it must return an Experiment or "
        "yield several."
      )
  return [item.experiments if isinstance(item, Trials) else (item,) for item in made]


def _failed(error: BaseException, path: Path, doing: str) -> UserError:
  """What the user's own code raised, with the last line of the file that was on the way to it."""
  line = _line(error, path)
  place = f"{path}:{line}" if line else str(path)
  if isinstance(error, RunError):
    return UserError(f"{place}: {error}")
  return UserError(f"{place}: {reason(error)}, in {doing}; mend the file, or what it was given.")


def _listed(names: Iterable[str]) -> str:
  names = list(names)
  more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
  return ", ".join(names[:LISTED]) + more or "none"


def _public(module: Any) -> dict[str, Callable[..., Any]]:
  return {
    name: value
    for name, value in vars(module).items()
    if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
  }


def _checked(function: Callable[..., Any], knobs: dict[str, Any], path: Path) -> dict[str, Any]:
  """The knobs with their types checked against the function's defaults and annotations."""
  try:
    parameters = inspect.signature(function, eval_str=True).parameters
  except Exception:  # an annotation that only a type checker resolves
    parameters = inspect.signature(function).parameters
  unnamed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
  for name, parameter in parameters.items():
    needed = parameter.default is parameter.empty and parameter.kind not in unnamed
    if needed and name not in knobs:
      raise UserError(f"{path}:{function.__name__} needs {name}=...; give it on the command line.")
  checked = {}
  for name, value in knobs.items():
    if name not in parameters:
      raise UserError(_no_knob(name, f"{path}:{function.__name__}", parameters))
    default, hint = _default(parameters[name]), parameters[name].annotation
    hint = None if hint is inspect.Parameter.empty or isinstance(hint, str) else hint
    if isinstance(default, str) and not isinstance(value, str):
      value = str(value)  # `file=2024` is a name, not a number
    trial = name == search.TRIAL and (isinstance(value, Mapping) or hasattr(value, "suggest_float"))
    # It may be annotated as Optuna's, and is one of ours where it was written down.
    checked[name] = value if trial else check(value, default, hint, name)
  return checked


def _no_knob(name: str, function: str, knobs: Iterable[str]) -> str:
  return (
    f"{name}: {function} has no such knob.{nearest(name, [*knobs, *_experiment_fields()])} "
    f"Its knobs: {', '.join(knobs) or 'none'}; dotted names override fields (see --help)."
  )


def _default(parameter: inspect.Parameter | None) -> Any:
  if parameter is None or parameter.default is inspect.Parameter.empty:
    return None
  return parameter.default


def _experiment_fields() -> Iterable[str]:
  return [field.name for field in dataclasses.fields(Experiment)]


def _line(error: BaseException, path: Path) -> int | None:
  """The last line of the experiment file in the error's traceback."""
  line, trace = None, error.__traceback__
  while trace:
    if Path(trace.tb_frame.f_code.co_filename).absolute() == path.absolute():
      line = trace.tb_lineno
    trace = trace.tb_next
  return line
