"""What lies in a device's memory when most does, by the line of source that made it.

The schedule says when each array is made and last used. Arrays that are views of others, tuples and
updates in place are told apart from those that take memory of their own.
"""

from __future__ import annotations

import re
from collections import defaultdict

from research.plan import collectives
from research.plan.hlo import Computation, Instruction, Module
from research.plan.trace import Buffer

_VIEWS = frozenset({
  "tuple", "get-tuple-element", "bitcast", "while", "optimization-barrier", "opt-barrier",
  "copy-done", "slice-done", "async-done", "async-update", "all-gather-done", "all-reduce-done",
  "collective-permute-done", "call", "conditional",
})  # fmt: skip
_NONE = frozenset({"constant", "parameter", "partition-id", "replica-id", "after-all", "iota"})


def largest(module: Module, count: int = 10) -> list[Buffer]:
  """The largest arrays that live when the temporary memory is fullest, like ones together."""
  _, alive = _peak(module, module.entry)
  together: dict[tuple[str, str], list[float]] = defaultdict(list)
  for computation, made in alive:
    shape = max(made.arrays, key=lambda array: array.bytes)
    sizes = ",".join(map(str, shape.sizes))
    writer = _writer(module, computation, made)
    line = collectives.cause(module, writer)
    name = collectives.scope(writer.scope) or made.name.split(".")[0]
    together[line, f"{shape.dtype}[{sizes}] {name}"].append(_bytes(computation, made))
  found = [
    Buffer(sum(sizes), what + (f", {len(sizes)} times" if len(sizes) > 1 else ""), line)
    for (line, what), sizes in together.items()
  ]
  return sorted(found, key=lambda buffer: -buffer.bytes)[:count]


def _peak(
  module: Module, computation: Computation
) -> tuple[float, list[tuple[Computation, Instruction]]]:
  """Bytes made in a computation that live at once at most, and what they are."""
  instructions = computation.instructions
  owners: dict[str, frozenset[str]] = {}  # the arrays that a result is, or is a view of
  last: dict[str, int] = {}
  for i, made in enumerate(instructions):
    taken = frozenset().union(*(owners.get(name, frozenset()) for name in made.operands))
    for name in taken:
      last[name] = i
    if made.opcode in _NONE:
      owners[made.name] = frozenset()
    elif made.opcode in _VIEWS or _in_place(made):
      owners[made.name] = taken
    else:
      owners[made.name] = frozenset({made.name})
      last[made.name] = i
  for name in owners.get(computation.root.name, ()):
    last[name] = len(instructions)

  alive: dict[str, Instruction] = {}
  now, best, at_best = 0.0, 0.0, []
  for i, made in enumerate(instructions):
    if owners[made.name] == {made.name} and made.opcode not in _VIEWS:
      alive[made.name] = made
      now += _bytes(computation, made)
    inner, within = 0.0, []
    if made.opcode in ("while", "call"):
      inside = made.attribute("body") or made.attribute("to_apply")
      inner, within = _peak(module, module.computations[inside])
    if now + inner > best:
      best = now + inner
      at_best = [(computation, made) for made in alive.values()] + within
    for name in [name for name in alive if last[name] <= i]:
      now -= _bytes(computation, alive.pop(name))
  return best, at_best


def _bytes(computation: Computation, made: Instruction) -> float:
  """What a result takes of its own; what starts a copy also returns the source."""
  size = sum(array.bytes for array in made.arrays if array.in_memory)
  if not made.opcode.endswith("-start"):
    return size
  taken = computation.operands(made)
  return max(0, size - sum(array.bytes for i in taken for array in i.arrays if array.in_memory))


def _writer(module: Module, computation: Computation, made: Instruction) -> Instruction:
  """The instruction whose source says what an array is, where its own has none.

  An array that a loop fills turn by turn is explained by what the loop writes into it, a copy by
  what it copies.
  """
  if made.opcode != "custom-call" and _explained(module, made):
    return made
  filled = _filled_by_loop(module, computation, made)
  if filled is not None:
    return filled
  source = made
  while (
    source.operands and not _explained(module, source) and source.operands[0] in (computation.named)
  ):
    source = computation.named[source.operands[0]]
  return source


def _filled_by_loop(
  module: Module, computation: Computation, made: Instruction
) -> Instruction | None:
  for given in computation.instructions:
    if given.opcode != "tuple" or made.name not in given.operands:
      continue
    for loop in computation.instructions:
      if loop.opcode == "while" and loop.operands == (given.name,):
        body = module.computations[loop.attribute("body")]
        inside = body.named.get(body.root.operands[given.operands.index(made.name)])
        while inside is not None and inside.opcode in ("get-tuple-element", "bitcast", "copy"):
          inside = body.named.get(inside.operands[0])
        if inside is not None and _explained(module, inside):
          return inside
  return None


def _explained(module: Module, made: Instruction) -> bool:
  return collectives.cause(module, made) != collectives.UNKNOWN


def _in_place(made: Instruction) -> bool:
  """Whether a result is written over an operand."""
  if made.opcode in ("dynamic-update-slice", "scatter"):
    return True
  aliased = "output_to_operand_aliasing" in made.attributes
  if made.opcode == "custom-call":
    return made.target in ("ConcatBitcast",) or aliased
  updates = re.search(r"dynamic[-_]update[-_]slice", made.name + made.attributes[:400])
  return made.opcode == "fusion" and (aliased or bool(updates))
