"""Where every parameter of an experiment goes on a mesh, by which rule, and what each device holds.

Nothing is compiled and no device is needed: shapes and rules say it all. What would go wrong
without a word elsewhere is an error here: a rule that matches nothing, a large array that every
device would hold whole, a size that does not divide.
"""

from __future__ import annotations

import dataclasses
import math

import rich.box
from rich.console import Console
from rich.table import Table

from research import update
from research.errors import UserError
from research.experiment import Experiment
from research.mesh import RULES
from research.nn import platform
from research.sharding import Layout, axes_of

HOST = 8  # devices that a mesh with an open size is explained for, unless told
LARGE = 2**20  # bytes from which an array that is not split is an error
OF_ACTIVATIONS = frozenset("BLM")  # letters that no parameter needs to have


@dataclasses.dataclass(frozen=True)
class Line:
  """One parameter: its name, letters and sizes, the rules that matched, and its bytes.

  Attributes:
    matched: for each dimension the mesh axes that split it, or None.
    whole, each: bytes of all of it and of one device's part, in float32.
    problem: what is wrong with it, or nothing.
  """

  name: str
  letters: tuple[str, ...]
  shape: tuple[int, ...]
  matched: tuple[str | tuple[str, ...] | None, ...]
  whole: int
  each: int
  problem: str = ""


def explain(experiment: Experiment, devices: int | None = None) -> tuple[list[Line], list[str]]:
  """A line for each parameter, and all that is wrong.

  Args:
    experiment: its model is traced.
    devices: how many; what the sizes of the mesh ask for where not given.

  Raises:
    UserError: sizes of the mesh that do not fit the devices.
  """
  layout = layout_of(experiment, devices)
  lines = [line_of(layout, *named) for named in parameters(experiment)]
  problems = [line.problem for line in lines if line.problem]
  for name, rows in update.abstract_batch(experiment).items():
    try:
      layout.spec("B" + "." * (rows.ndim - 1), rows.shape)
    except UserError as error:
      problems.insert(0, f"batch {name}: {error}")
      break  # one is like the others
  known = {letter for line in lines for letter in line.letters} | OF_ACTIVATIONS
  for letter, axes in layout.rules:
    if letter not in known and (letter, axes) not in RULES:
      problems.append(
        f"the rule ({letter!r}, {axes!r}) matches nothing: no parameter has a dimension {letter!r} "
        f"({', '.join(sorted(known))} there are); drop it from sharding.rules, or mend its letter."
      )
  return lines, problems


def show(experiment: Experiment, devices: int | None = None) -> int:
  """Prints the table; returns the exit code, 2 where something is wrong."""
  layout = layout_of(experiment, devices)
  lines, problems = explain(experiment, devices)
  mesh = {axis: size for axis, size in layout.mesh.shape.items() if size > 1}
  count = layout.mesh.size
  said = ", ".join(f"{axis}={size}" for axis, size in mesh.items()) or "nothing is split"
  table = Table(box=rich.box.SIMPLE_HEAD, title_justify="left")
  table.title = f"{experiment.name} on {count} device{'s' if count > 1 else ''}: {said}"
  for heading in ("parameter", "dimensions", "rules", "PartitionSpec"):
    table.add_column(heading, no_wrap=True)
  table.add_column("per device", justify="right")
  for line in lines:
    sizes = " ".join(
      f"{letter if letter != '.' else ''}{size}" for letter, size in zip(line.letters, line.shape)
    )
    matched = [
      f"{letter} over {' x '.join(axes_of(axes))}"
      for letter, axes in zip(line.letters, line.matched)
      if axes
    ]
    spec = ", ".join("None" if axes is None else repr(axes) for axes in line.matched)
    rules = ", ".join(matched) or "(whole)"
    table.add_row(line.name, sizes, rules, f"P({spec})", _bytes(line.each))
  Console(width=200, highlight=False).print(table)  # a line for each, however wide the terminal
  whole, each = sum(line.whole for line in lines), sum(line.each for line in lines)
  print(
    f"{whole // 4:,} parameters, {_bytes(whole)} in float32: {_bytes(each)} a device, of an even "
    f"share of {_bytes(whole / count)}. What an optimizer keeps of a parameter lies beside it."
  )
  stderr = Console(stderr=True, highlight=False, soft_wrap=True)
  for problem in problems:
    stderr.print(f"error: {problem}", markup=False)
  return 2 if problems else 0


def layout_of(experiment: Experiment, devices: int | None = None) -> Layout:
  """The experiment's rules on a mesh of devices that need not be here."""
  asked = experiment.sharding.mesh.values()
  if devices is None:
    fixed = math.prod(size for size in asked if size > 0)
    devices = max(HOST, fixed) if -1 in asked else fixed
  return experiment.sharding.on(devices)


def parameters(experiment: Experiment) -> list[tuple[str, tuple[str, ...], tuple[int, ...]]]:
  """(name, letters, shape) of every parameter, its layers stacked where they can be."""
  if experiment.optimizer is None:
    raise UserError(f"{experiment.name} counts its model and has no parameters to split.")
  with platform.compiling_for("plain"):  # layers are scanned there, one line for all of them
    return update.parameters(experiment, update.abstract_batch(experiment))


def line_of(layout: Layout, name: str, letters: tuple[str, ...], shape: tuple[int, ...]) -> Line:
  """How one parameter is split."""
  whole = 4 * math.prod(shape)
  try:
    spec = layout.spec(letters, shape)
  except UserError as error:
    return Line(name, letters, shape, (None,) * len(shape), whole, whole, f"{name}: {error}")
  parts = layout.shards(spec)
  problem = ""
  if parts == 1 and whole >= LARGE and (free := _splitting(layout)):
    problem = (
      f"{name} {''.join(letters)}{shape}, {_bytes(whole)}, is whole on every device: no rule "
      f"splits it over {' or '.join(free)}. Add one for one of its letters to sharding.rules, as "
      f"({letters[-1]!r}, {free[0]!r})."
    )
  return Line(name, letters, shape, tuple(spec), whole, whole // parts, problem)


def _splitting(layout: Layout) -> list[str]:
  """The axes of the mesh that are there to split a parameter of any layer."""
  of_parameters = {
    axis
    for letter, axes in layout.rules
    if letter not in OF_ACTIVATIONS | {"N"}
    for axis in axes_of(axes)
  }
  return [axis for axis in layout.mesh.shape if axis in of_parameters and layout.size(axis) > 1]


def _bytes(count: float) -> str:
  for unit in ("B", "KiB", "MiB", "GiB"):
    if count < 1024 or unit == "GiB":
      return f"{count:.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
    count /= 1024
  raise AssertionError
