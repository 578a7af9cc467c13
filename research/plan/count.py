"""How often a loop runs, and how many operations its products are: what no printed program says.

The compiler's own count takes every loop once. Here the condition of a loop is evaluated, with the
increment that its body makes: a loop over a collective product steps by two, so that its limit
alone would count it twice.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator

import numpy as np

from research.plan.hlo import Computation, Instruction, Module

MOST = 1 << 40  # trips; a condition that still holds there is not understood
_COMPARE: dict[str, Callable[[int, int], bool]] = {
  "LT": lambda a, b: a < b,
  "LE": lambda a, b: a <= b,
  "GT": lambda a, b: a > b,
  "GE": lambda a, b: a >= b,
  "EQ": lambda a, b: a == b,
  "NE": lambda a, b: a != b,
}
_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
  "add": lambda a, b: a + b,
  "subtract": lambda a, b: a - b,
  "multiply": lambda a, b: a * b,
  "and": lambda a, b: a & b,
  "or": lambda a, b: a | b,
  "minimum": min,
  "maximum": max,
}
_SAME = ("copy", "bitcast", "convert", "reshape", "broadcast", "optimization-barrier", "copy-done")

State = dict[int, int | None]


def trips(module: Module, caller: Computation, loop: Instruction) -> int:
  """How often the body of a `while` in `caller` runs; 1 where that cannot be told."""
  known = re.search(r'known_trip_count":?\{"?n"?:"?(\d+)', loop.attributes)
  if known:
    return int(known[1])
  condition = module.computations[loop.attribute("condition")]
  body = module.computations[loop.attribute("body")]
  first = caller.named.get(loop.operands[0])
  asked = sorted({i.index for i in condition.instructions if i.opcode == "get-tuple-element"})
  values = {k: _element(module, caller, first, k, {}) for k in asked}
  after = {k: _element(module, body, body.root, k, values) for k in asked}
  steps = {k: after[k] - v if v is not None and after[k] is not None else None
           for k, v in values.items()}  # fmt: skip

  def runs(n: int) -> bool | None:
    """Whether the condition holds after n trips."""
    state = {
      k: None if v is None or steps[k] is None else v + n * steps[k] for k, v in values.items()
    }
    return _value(module, condition, condition.root.name, state)

  if runs(0) is None:
    return 1
  low, high = 0, 1
  while runs(high):
    low, high = high, 2 * high
    if high > MOST:
      return 1
  while high - low > 1:
    middle = (low + high) // 2
    low, high = (middle, high) if runs(middle) else (low, middle)
  return high if runs(low) else 0


def _element(
  module: Module, computation: Computation, made: Instruction | None, k: int, state: State
) -> int | None:
  """Element k of a tuple, where it is an integer that can be told."""
  if made is None:
    return None
  if made.opcode == "tuple":
    return _value(module, computation, made.operands[k], state)
  return state.get(k) if made.opcode == "parameter" else None


def _value(
  module: Module, computation: Computation, name: str, state: State, depth: int = 0
) -> int | None:
  """An integer of a computation whose parameter is the tuple `state`, or whose parameters it is."""
  made = computation.named.get(name)
  if made is None or depth > 64:
    return None
  ask = functools.partial(_value, module, computation, state=state, depth=depth + 1)
  if made.opcode == "constant":
    if made.inside in ("true", "false"):
      return int(made.inside == "true")
    return int(made.inside) if re.fullmatch(r"-?\d+", made.inside) else None
  if made.opcode == "parameter":
    return state.get(int(made.inside))
  if made.opcode == "get-tuple-element":
    source = computation.named[made.operands[0]]
    if source.opcode == "tuple":
      return ask(source.operands[made.index])
    return state.get(made.index) if source.opcode == "parameter" else None
  if made.opcode in _SAME:
    return ask(made.operands[0])
  if made.opcode in ("fusion", "call"):
    inner = module.called(made)
    given = {i: ask(operand) for i, operand in enumerate(made.operands)}
    return _value(module, inner, inner.root.name, given, depth + 1)
  values = [ask(operand) for operand in made.operands]
  if None in values or len(values) != 2:
    return None
  if made.opcode == "compare":
    return int(_COMPARE[re.search(r"direction=(\w+)", made.attributes)[1]](*values))
  return _ARITHMETIC[made.opcode](*values) if made.opcode in _ARITHMETIC else None


def products(module: Module, computation: Computation) -> Iterator[tuple[float, str]]:
  """FLOPs and operands' dtype of every product in a computation and its fusions, not its loops."""
  for made in computation.instructions:
    yield from products_of(module, computation, made)


def products_of(
  module: Module, computation: Computation, made: Instruction
) -> Iterator[tuple[float, str]]:
  """The same of one instruction."""
  if made.opcode in ("convolution", "dot"):
    lhs, rhs = computation.operands(made)[:2]
    flops = _dot if made.opcode == "dot" else _convolution
    yield flops(made, lhs, rhs), lhs.arrays[0].dtype
  elif made.opcode in ("fusion", "call") and (inner := module.called(made)):
    yield from products(module, inner)
  elif made.opcode == "custom-call" and "gemm" in made.target:  # cuBLAS, which XLA:GPU calls
    lhs = computation.operands(made)[0]
    contracted = _sizes(r'lhs_contracting_dimensions":\[([^\]]*)\]', made.attributes)
    inner = math.prod(lhs.arrays[0].sizes[i] for i in contracted)
    yield 2.0 * made.arrays[0].size * inner, lhs.arrays[0].dtype


def _dot(made: Instruction, lhs: Instruction, rhs: Instruction) -> float:
  contracted = _sizes(r"lhs_contracting_dims=\{([^}]*)\}", made.attributes)
  return 2.0 * made.arrays[0].size * math.prod(lhs.arrays[0].sizes[i] for i in contracted)


def _convolution(made: Instruction, lhs: Instruction, rhs: Instruction) -> float:
  """Two for every pair of an output and a kernel place under which there is an input.

  The TPU compiler writes batched products as convolutions over padded or dilated windows, most
  places of which meet no input.
  """
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", made.attributes)
  inputs, kernel, outputs = labels.groups()
  lhs_sizes, rhs_sizes, out_sizes = (x.arrays[0].sizes for x in (lhs, rhs, made))
  window = re.search(r"window=\{([^}]*)\}", made.attributes)
  fields = dict(re.findall(r"(\w+)=(\S+)", window[1] if window else ""))
  pairs = 1
  for i in range(len(inputs) - 2):
    digit = str(i)

    def part(name, default, i=i):
      return fields[name].split("x")[i] if name in fields else default

    low = int(part("pad", "0_0").split("_")[0])
    pairs *= _places(
      lhs_sizes[inputs.index(digit)],
      int(part("size", "1")),
      out_sizes[outputs.index(digit)],
      int(part("stride", "1")),
      low,
      int(part("lhs_dilate", "1")),
      int(part("rhs_dilate", "1")),
    )
  groups = re.search(r"batch_group_count=(\d+)", made.attributes)
  batch = lhs_sizes[inputs.index("b")] // (int(groups[1]) if groups else 1)
  features = rhs_sizes[kernel.index("i")] * rhs_sizes[kernel.index("o")]
  return 2.0 * pairs * batch * features


@functools.lru_cache(maxsize=4096)
def _places(
  size: int, window: int, outputs: int, stride: int, low: int, dilation: int, spread: int
) -> int:
  """Pairs of an output and a window place that meet an input, along one dimension."""
  places = np.arange(outputs)[:, None] * stride + np.arange(window)[None, :] * spread - low
  real = (places >= 0) & (places <= (size - 1) * dilation) & (places % dilation == 0)
  return int(np.count_nonzero(real))


def _sizes(pattern: str, text: str) -> list[int]:
  found = re.search(pattern, text)
  return [int(i) for i in re.findall(r"\d+", found[1])] if found else []
