"""A compiled program as the compiler prints it: computations of instructions, in scheduled order.

The text of an optimized XLA module is read line by line; nothing of XLA is imported, so a program
can be studied where it was not compiled. Only what a plan asks for is kept of an instruction: its
shapes, operands, and the text of its attributes.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

BITS = {
  "pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "s32": 32, "u32": 32,
  "s64": 64, "u64": 64, "f8e4m3fn": 8, "f8e5m2": 8, "bf16": 16, "f16": 16, "f32": 32, "f64": 64,
  "c64": 64, "c128": 128,
}  # fmt: skip

_SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*)")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) .*->.*\{$")
_NAMES = re.compile(r"%([\w.\-]+)")
_FRAME = re.compile(r"stack_frame_id=(\d+)")


@dataclasses.dataclass(frozen=True)
class Array:
  """One array of a result: its dtype, sizes, and whether it lies in the device's main memory."""

  dtype: str
  sizes: tuple[int, ...]
  in_memory: bool = True

  @property
  def size(self) -> int:
    return math.prod(self.sizes)

  @property
  def bytes(self) -> int:
    return self.size * BITS.get(self.dtype, 0) // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line.

  Attributes:
    name, opcode: as printed.
    arrays: of the result; several where it is a tuple.
    operands: names of the inputs, in order.
    inside: the text in the parentheses: an operand list, a literal, a parameter's number.
    attributes: the text after them.
    root: whether it is its computation's result.
  """

  name: str
  opcode: str
  arrays: tuple[Array, ...]
  operands: tuple[str, ...]
  inside: str
  attributes: str
  root: bool

  @property
  def bytes(self) -> int:
    return sum(array.bytes for array in self.arrays)

  def attribute(self, name: str) -> str | None:
    """The computation that an attribute names, for example `calls`."""
    found = re.search(name + r"=%?([\w.\-]+)", self.attributes)
    return found[1] if found else None

  @property
  def index(self) -> int:
    """Of a get-tuple-element."""
    return int(re.search(r"index=(\d+)", self.attributes)[1])

  @property
  def target(self) -> str:
    """Of a custom call."""
    found = re.search(r'custom_call_target="([^"]*)"', self.attributes)
    return found[1] if found else ""

  @property
  def scope(self) -> str:
    """Where in the program it was written, as JAX names it: functions, modules, operation."""
    found = re.search(r'op_name="([^"]*)"', self.attributes)
    return found[1] if found else ""

  @property
  def cycles(self) -> int | None:
    """What the TPU compiler expects it to take."""
    found = re.search(r'"estimated_cycles":"(\d+)"', self.attributes)
    return int(found[1]) if found else None


@dataclasses.dataclass(frozen=True)
class Location:
  """A line of source: what the model's author wrote, or a library."""

  file: str
  line: int
  function: str

  def __str__(self) -> str:
    return f"{self.file}:{self.line}"


@dataclasses.dataclass(frozen=True)
class Computation:
  """Instructions in the order in which they run, where the module is scheduled."""

  name: str
  instructions: tuple[Instruction, ...]

  @functools.cached_property
  def named(self) -> dict[str, Instruction]:
    return {instruction.name: instruction for instruction in self.instructions}

  @property
  def root(self) -> Instruction:
    return next((i for i in self.instructions if i.root), self.instructions[-1])

  def operands(self, instruction: Instruction) -> list[Instruction]:
    """The instructions whose results it takes."""
    return [self.named[name] for name in instruction.operands if name in self.named]


@dataclasses.dataclass(frozen=True)
class Module:
  """A program: its computations by name, the first to run, and the source that it came from."""

  computations: dict[str, Computation]
  entry: Computation
  frames: dict[int, tuple[Location, int]]

  def trace(self, instruction: Instruction) -> Iterator[Location]:
    """The lines that led to an instruction, from the innermost call outward."""
    found = _FRAME.search(instruction.attributes)
    frame, seen = int(found[1]) if found else 0, set()
    while frame in self.frames and frame not in seen:
      seen.add(frame)
      location, frame = self.frames[frame]
      yield location

  def called(self, instruction: Instruction) -> Computation | None:
    """What a fusion, call or asynchronous start computes."""
    name = instruction.attribute("calls") or instruction.attribute("to_apply")
    return self.computations.get(name) if name else None

  def branches(self, instruction: Instruction) -> list[Computation]:
    """Of a conditional."""
    text = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
    names = _NAMES.findall(text[1]) if text else []
    names += re.findall(r"(?:true|false)_computation=%([\w.\-]+)", instruction.attributes)
    return [self.computations[name] for name in names]


def parse(text: str) -> Module:
  """Reads `compiled.as_text()`."""
  frames = _frames(text)
  computations: dict[str, Computation] = {}
  entry = name = None
  body: list[list[str]] = []
  for line in text.splitlines():
    if name is None:
      if found := _COMPUTATION.match(line):
        name, body = found[2], []
        entry = name if found[1] else entry
    elif line == "}" or line.startswith("}, execution_thread"):
      made = [made for parts in body if (made := _instruction("".join(parts)))]
      computations[name] = Computation(name, tuple(made))
      name = None
    elif _INSTRUCTION.match(line):
      body.append([line])
    elif body:  # an attribute that goes on in the next line
      body[-1].append(line)
  return Module(computations, computations[entry], frames)


def arrays(text: str) -> tuple[Array, ...]:
  """The arrays in a printed shape, tuples flattened."""
  return tuple(
    Array(
      dtype,
      tuple(int(size) for size in sizes.split(",") if size),
      "S(" not in layout,
    )
    for dtype, sizes, layout in _SHAPE.findall(text)
    if dtype in BITS
  )


def _instruction(line: str) -> Instruction | None:
  found = _INSTRUCTION.match(line)
  rest = found[3]
  end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.find(" ")
  shape, rest = rest[:end], rest[end:].lstrip()
  opens = rest.find("(")
  if opens < 0:
    return None
  closes = _closing(rest, opens)
  inside = rest[opens + 1 : closes]
  return Instruction(
    name=found[2],
    opcode=rest[:opens],
    arrays=arrays(shape),
    operands=tuple(_NAMES.findall(inside)),
    inside=inside,
    attributes=rest[closes + 1 :],
    root=bool(found[1]),
  )


def _closing(text: str, start: int) -> int:
  """Where the parenthesis that opens at `start` is closed."""
  depth = 0
  for i in range(start, len(text)):
    depth += (text[i] == "(") - (text[i] == ")")
    if depth == 0:
      return i
  return len(text)


def _frames(text: str) -> dict[int, tuple[Location, int]]:
  """Location and calling frame of every frame in the tables at the head of the module."""
  head = text[: max(text.find("\n%"), text.find("\nENTRY"), 0)] if "StackFrames" in text else ""
  tables = {
    title: re.findall(r"^(\d+) (.+)$", _section(head, title), re.MULTILINE)
    for title in ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
  }
  files = {int(i): name.strip('"') for i, name in tables["FileNames"]}
  functions = {int(i): name.strip('"') for i, name in tables["FunctionNames"]}
  locations = {}
  for i, entry in tables["FileLocations"]:
    values = dict(re.findall(r"(\w+)=(\d+)", entry))
    locations[int(i)] = Location(
      files.get(int(values["file_name_id"]), "?"),
      int(values["line"]),
      functions.get(int(values["function_name_id"]), "?"),
    )
  frames = {}
  for i, entry in tables["StackFrames"]:
    values = dict(re.findall(r"(\w+)=(\d+)", entry))
    # Printed counted from one, with one itself for "no caller".
    caller = int(values.get("parent_frame_id", 1)) - 1
    frames[int(i)] = (locations[int(values["file_location_id"])], caller)
  return frames


def _section(text: str, title: str) -> str:
  _, found, rest = text.partition(f"\n{title}\n")
  return rest.split("\n\n")[0] if found else ""
