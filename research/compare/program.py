"""Whether two training steps are the same program: StableHLO without names and places.

The text is compared, so that "the same" is certain; two texts that differ may still compute the
same, for example where parameters have other names and come in another order.
"""

from __future__ import annotations

import collections
import dataclasses
import re

from research.compare.shapes import MACHINE, Shapes
from research.nn import platform

_NAMED = re.compile(r',? ?jax\.(?:result_info|arg_info) = "[^"]*"')
_SYMBOL = re.compile(r"@(?!mesh\b)[\w.$-]+")
_CONSTANT = re.compile(r"(stablehlo\.constant) dense<([^>]*)>")
_SPLIT = re.compile(
  r",? ?(?:sdy\.sharding|mhlo\.sharding) = (?:#sdy\.sharding\w*<[^>]*>|\"[^\"]*\")|<@mesh[^>]*>"
)
_OPERATION = re.compile(r"\b(?:stablehlo|sdy|chlo)\.\w+")


@dataclasses.dataclass(frozen=True)
class Verdict:
  """How two programs compare.

  Attributes:
    same: to the letter.
    constants: (first, second) of the constants that differ, where nothing else does.
    split: whether only the placements of arrays differ.
    operations: name -> how many of it in either, where these differ.
  """

  same: bool
  constants: tuple[tuple[str, str], ...] = ()
  split: bool = False
  operations: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)


def lowered(shapes: Shapes) -> str:
  """The training step as canonical StableHLO."""
  with platform.compiling_for(MACHINE):
    traced = shapes.program.step.trace(shapes.program.abstract, shapes.batch)
    return canonical(traced.lower(lowering_platforms=("cpu",)).as_text())


def canonical(text: str) -> str:
  """Without the names of results and functions, which are numbered as they come."""
  numbers: dict[str, str] = {}
  text = _NAMED.sub("", text)
  text = _SYMBOL.sub(lambda m: numbers.setdefault(m[0], f"@f{len(numbers)}"), text)
  return re.sub(r"module @\S+", "module", text).replace(" {}", "")


def verdict(a: str, b: str) -> Verdict:
  """Compares two texts of `lowered`."""
  if a == b:
    return Verdict(same=True)
  if _CONSTANT.sub(r"\1", a) == _CONSTANT.sub(r"\1", b):
    pairs = zip(_CONSTANT.findall(a), _CONSTANT.findall(b), strict=True)
    return Verdict(same=False, constants=tuple((x[1], y[1]) for x, y in pairs if x != y))
  if _unsplit(a) == _unsplit(b):
    return Verdict(same=False, split=True)
  counts = [collections.Counter(_OPERATION.findall(text)) for text in (a, b)]
  operations = {
    name: (counts[0][name], counts[1][name])
    for name in sorted(counts[0].keys() | counts[1].keys())
    if counts[0][name] != counts[1][name]
  }
  return Verdict(same=False, operations=operations)


def _unsplit(text: str) -> str:
  """Without meshes and placements; constraints stay, as what they are applied to."""
  lines = [line for line in text.splitlines() if "sdy.mesh " not in line and "module" not in line]
  return _SPLIT.sub("", "\n".join(lines)).replace(" {}", "")
