"""`research compare A B`: what is printed, and the exit code: as of `diff`, 0 alike, 1 not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import rich.box
from rich.console import Console
from rich.filesize import decimal as _bytes
from rich.table import Table
from rich.text import Text

from research.compare import lockstep, program, runs, shapes
from research.compare.shapes import Shapes
from research.compare.sides import Side, differences, side
from research.errors import UserError

SHOWN = 40  # lines of a section


def compare(
  a: str, b: str, *, devices: int | None = None, step: bool = False, most: int = 8
) -> int:
  """Prints how two sides differ.

  Args:
    a, b: see `sides`.
    devices: of the mesh for which placements are compared; as of `explain` where not given.
    step: also where they part in training: two runs by what they left, two files by training both.
    most: steps that two files are trained for.

  Returns:
    0 where nothing differs but the name; 1 where something does.

  Raises:
    UserError: a side that cannot be read, or one that has no steps.
  """
  sides = side(a), side(b)
  console = Console(width=200, highlight=False, soft_wrap=True)
  differ = _fields(console, *sides)
  notes = [one.note for one in sides if one.experiment is None]
  if notes:
    console.print(f"Fields alone are compared: {notes[0]}", markup=False)
  else:
    differ |= _what_they_are(console, *sides, devices)
  if step:
    differ |= _steps(console, *sides, most)
  console.print("They differ." if differ else "They are the same.")
  return int(differ)


def _fields(console: Console, a: Side, b: Side) -> bool:
  found = differences(a, b)
  _table(
    console,
    "Fields",
    ("", a.said, b.said),
    [(path, *("-" if x is None else x for x in pair)) for path, *pair in found],
    "the same",
  )
  both = [name for name in a.versions if name in b.versions]
  other = [(name, a.versions[name], b.versions[name]) for name in both]
  if other := [row for row in other if row[1] != row[2]]:
    _table(console, "Made with", ("", a.said, b.said), other, "")
  return bool(found)


def _what_they_are(console: Console, a: Side, b: Side, devices: int | None) -> bool:
  """Parameters, costs, placements and programs; whether any differ."""
  counted = [one.experiment.optimizer is None for one in (a, b)]
  if any(counted):
    console.print("A counted model has no parameters and no step: fields are all there is of it.")
    return counted[0] != counted[1]
  first, second = (shapes.shapes_of(one.experiment, devices) for one in (a, b))
  found = shapes.changes(first.params, second.params)
  _parameters(console, found)
  _costs(console, first, second)
  _placements(console, first, second, found)
  return _programs(console, first, second) or found.any()


def _parameters(console: Console, found: shapes.Changes) -> None:
  rows = []
  for sign, arrays in (("-", found.removed), ("+", found.added)):
    for name, members in shapes.folded(arrays, {n: _shape(x) for n, x in arrays.items()}):
      size = sum(shapes.nbytes(arrays[member]) for member in members)
      rows.append((sign, name, _shape(arrays[members[0]]), f"{sign}{_bytes(size)}"))
  pairs = found.reshaped
  for name, members in shapes.folded(pairs, {n: tuple(map(_shape, x)) for n, x in pairs.items()}):
    old, new = pairs[members[0]]
    more = len(members) * (shapes.nbytes(new) - shapes.nbytes(old))
    sign = "-" if more < 0 else "+"
    rows.append(("~", name, f"{_shape(old)} -> {_shape(new)}", f"{sign}{_bytes(abs(more))}"))
  _table(console, "Parameters", ("", "name", "each", "bytes"), rows, "the same names and shapes")


def _costs(console: Console, a: Shapes, b: Shapes) -> None:
  """What each costs; all of it is told, also what is the same."""
  rows = []
  told: list[tuple[str, Callable[[Shapes], float], Callable[[float], str]]] = [
    ("parameters", lambda x: sum(math.prod(p.shape) for p in x.params.values()), "{:,.0f}".format),
    ("bytes of parameters", lambda x: x.bytes, _bytes),
    ("bytes of the optimizer's state", lambda x: x.optimizer, _bytes),
    ("tokens, or examples, of a step", lambda x: x.tokens, "{:,.0f}".format),
    ("FLOPs of one of them", lambda x: x.flops / x.tokens, "{:.4g}".format),
  ]
  for name, value, show in told:
    first, second = value(a), value(b)
    ratio = f"x {second / first:.3g}" if first and first != second else ""
    rows.append((name, show(first), show(second), ratio))
  _table(console, "Costs", ("", "first", "second", ""), rows, "")


def _placements(console: Console, a: Shapes, b: Shapes, found: shapes.Changes) -> None:
  rows = []
  if a.mesh != b.mesh:
    rows.append(("the mesh", _said(a.mesh), _said(b.mesh)))
    rows.append(("parameters on each device", _bytes(a.each), _bytes(b.each)))
  pairs = found.moved
  key = {name: tuple(map(_partition, pair)) for name, pair in pairs.items()}
  for name, members in shapes.folded(pairs, key):
    rows.append((name, *key[members[0]]))
  sizes = dict.fromkeys(str(x.program.layout.mesh.size) for x in (a, b))
  title = f"Placements on {' and '.join(sizes)} devices"
  _table(console, title, ("", "first", "second"), rows, "the same")


def _programs(console: Console, a: Shapes, b: Shapes) -> bool:
  verdict = program.verdict(program.lowered(a), program.lowered(b))
  if verdict.same:
    told = "the same, to the letter"
  elif verdict.constants:
    pairs = dict.fromkeys(verdict.constants)
    shown = ", ".join(f"{_constant(x)} -> {_constant(y)}" for x, y in list(pairs)[:6])
    told = f"the same but for constants: {shown}"
  elif verdict.split:
    told = "the same operations, with arrays split in other ways"
  else:
    counts = sorted(verdict.operations.items(), key=lambda item: -abs(item[1][0] - item[1][1]))
    shown = ", ".join(f"{name} {x} and {y}" for name, (x, y) in counts[:6])
    more = f" and {len(counts) - 6} kinds more" if len(counts) > 6 else ""
    same = "the same operations on other shapes, or arranged otherwise"
    told = f"another one: {shown}{more}" if counts else same
  console.print(f"Training step (StableHLO): {told}", markup=False)
  return not verdict.same


def _steps(console: Console, a: Side, b: Side, most: int) -> bool:
  if a.folder and b.folder:
    return _runs(console, a, b)
  if a.folder or b.folder:
    raise UserError("--step takes two run folders, or two experiment files; give two of a kind.")
  found = lockstep.lockstep(a.experiment, b.experiment, most)
  for step, losses in enumerate(found.losses, 1):
    console.print(f"step {step}: loss {losses[0]:.7g} and {losses[1]:.7g}")
  if found.alone:
    console.print(f"Only in one: {len(found.alone)} parameters, as {found.alone[0]}.", markup=False)
  if found.first is None:
    console.print(f"In {found.steps} steps every bit of what both have was the same.")
    return bool(found.alone)
  console.print(f"The first difference: {_apart(found.first)}.", markup=False)
  if found.clear is None:
    console.print(f"In {found.steps} steps nothing was clearly apart ({lockstep.CLEAR:.0%}).")
  elif found.clear != found.first:
    console.print(f"The first that is no rounding: {_apart(found.clear)}.", markup=False)
  return True


def _apart(found: lockstep.Apart) -> str:
  when = f"step {found.step}, {found.what}" if found.step else found.what
  far = "of another shape"
  if found.largest is not None:
    far = f"{found.far:.2g} of its norm apart, its numbers by up to {found.largest:.2g}"
  return f"{when}: {found.count} of {found.of} arrays, most of all {found.name}, {far}"


def _runs(console: Console, a: Side, b: Side) -> bool:
  logged, saved = runs.logged(a.folder, b.folder), runs.saved(a.folder, b.folder)
  if not logged.compared:
    told = "no step is in both"
  elif logged.step is None:
    told = f"the same at all of {len(logged.compared)} steps, up to {logged.compared[-1]}"
  else:
    values = ", ".join(f"{name} {x} and {y}" for name, (x, y) in logged.values.items())
    told = f"apart first at step {logged.step}, {logged.split}: {values}"
  console.print(f"metrics.jsonl: {told}", markup=False)
  if not saved.compared:
    told = "no step is in both"
  elif saved.step is None:
    told = f"every array the same at steps {', '.join(map(str, saved.compared))}"
  else:
    told = f"apart first at step {saved.step}"
    told += f" (the same at {saved.equal})" if saved.equal is not None else ""
    if saved.arrays:
      told += f": {len(saved.arrays)} of {saved.of} arrays, the first {saved.arrays[0]}"
    if saved.alone:
      told += f"; {len(saved.alone)} are only in one, as {saved.alone[0]}"
  console.print(f"Checkpoints: {told}", markup=False)
  return logged.step is not None or saved.step is not None


def _table(console: Console, title: str, head: tuple[str, ...], rows: list, none: str) -> None:
  if not rows:
    if none:
      console.print(f"{title}: {none}")
    return
  table = Table(box=rich.box.SIMPLE_HEAD, title=title, title_justify="left")
  for heading in head:
    table.add_column(Text(heading), overflow="fold")
  for row in rows[:SHOWN]:
    table.add_row(*map(Text, row))
  if len(rows) > SHOWN:
    table.add_row(f"and {len(rows) - SHOWN} more")
  console.print(table)


def _shape(x: Any) -> str:
  return f"{x.dtype.name}{list(x.shape)}"


def _partition(x: Any) -> str:
  axes = ["None" if not part else " x ".join(part) for part in shapes.spec(x)]
  return f"P({', '.join(axes)})"


def _said(mesh: Mapping[str, int]) -> str:
  return ", ".join(f"{axis}={size}" for axis, size in mesh.items()) or "nothing is split"


def _constant(text: str) -> str:
  """A number as it is usually written; of many, the beginning."""
  try:
    return f"{float(text):.6g}"
  except ValueError:
    return text if len(text) <= 24 else f"{text[:21]}..."
