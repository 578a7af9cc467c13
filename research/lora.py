"""LoRA: a weight learns only in a few directions, W + (alpha / r) A B (Hu et al., 2021).

The model does not know: parameters are a nested dict, in which two narrow arrays stand beside each
weight that is adapted, and what the model is applied to is the sum. So it holds for every model,
looped or scanned, and what is merged for good is what was trained, to the bit.
"""

from __future__ import annotations

import dataclasses
import math
import re
import zlib
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from research.errors import UserError
from research.optim.groups import Axes, Groups, alike, matrix_axes, names

A, B = "_lora_a", "_lora_b"  # at the end of the weight's own name


@dataclasses.dataclass(frozen=True)
class LoRA:
  """Low-rank adapters beside some of a model's weights.

  A begins as LeCun's normal and B at zero, so that nothing has changed before the first update. The
  weights themselves are frozen by the optimizer, `Groups(frozen=(optim.all_but("_lora_"),))`; a new
  head, or whatever else is to be trained in full, is named there beside the adapters.

  Attributes:
    at: an expression, found anywhere in the paths of weights, for example the paper's
      r"attention/(query|value)/kernel$".
    rank: r, of the change of each weight.
    alpha: the change is multiplied by alpha / r, so that the learning rate need not follow the
      rank (section 4.1).
  """

  at: str
  rank: int
  alpha: float

  def __post_init__(self):
    if self.rank < 1:
      raise UserError(f"adapters.rank={self.rank} must be at least 1.")
    if not self.alpha > 0:
      raise UserError(f"adapters.alpha={self.alpha} must be above 0; {self.rank}.0 scales by 1.")
    try:
      re.compile(self.at)
    except re.error as error:
      raise UserError(f"adapters.at={self.at!r} is not a regular expression: {error}.") from error

  def add(self, key: jax.Array, boxed: Any) -> Any:
    """The parameters of a model, with the adapters beside them.

    Args:
      key: of the initial values; those of a layer do not depend on how layers are run.
      boxed: the model's parameters, in boxes that name their letters.

    Raises:
      UserError: the expression matches nothing, or what is no matrix or too small for the rank.
    """
    flat = flatten_dict(boxed)
    for path, axes in self._found(boxed).items():
      box = flat[path]
      letters = box.names if isinstance(box, nn.meta.AxisMetadata) else (None,) * box.ndim
      weight = nn.meta.unbox(box)

      def kept(some, letters=letters, weight=weight):
        return tuple(letters[i] for i in some), tuple(weight.shape[i] for i in some)

      stack, inputs, outputs = map(kept, axes)
      layers = names(_keys(path), weight)
      keys = [jax.random.fold_in(key, zlib.crc32(name.encode())) for name in layers]
      init = nn.initializers.lecun_normal(in_axis=tuple(range(len(inputs[1]))))
      a = jnp.stack([init(key, (*inputs[1], self.rank)) for key in keys])
      a = a.reshape(*stack[1], *a.shape[1:])
      b = jnp.zeros((*stack[1], self.rank, *outputs[1]))
      *folders, name = path
      flat[*folders, name + A] = _boxed(a, (*stack[0], *inputs[0], None))
      flat[*folders, name + B] = _boxed(b, (*stack[0], None, *outputs[0]))
    return unflatten_dict(flat)

  def merged(self, params: Any) -> Any:
    """The parameters as the model knows them: each adapted weight with its change, float32."""
    flat = flatten_dict(params)
    for path in [path for path in flat if (*path[:-1], path[-1] + A) in flat]:
      *folders, name = path
      a, b = flat.pop((*folders, name + A)), flat.pop((*folders, name + B))
      axes = matrix_axes(_keys(path), flat[path])
      n, i, o = "n"[: len(axes.stack)], "uvwxyz"[: len(axes.inputs)], "efghij"[: len(axes.outputs)]
      change = jnp.einsum(f"{n}{i}r,{n}r{o}->{n}{i}{o}", a, b, precision="highest")
      flat[path] = flat[path] + self.alpha / self.rank * change
    return unflatten_dict(flat)

  def check(self, params: Any, groups: Groups) -> None:
    """UserError where a weight is trained in full beside its adapter."""
    flat = flatten_dict(params)
    for path in self._found(params):
      trained = [name for name in names(_keys(path), flat[path]) if not groups.freezes(name)]
      if trained:
        raise UserError(
          f"{trained[0]} would be trained in full beside its adapter; freeze it: "
          "optimizer.groups=optim.Groups(frozen=(optim.all_but('_lora_'),)), with what else is to "
          "be trained after '_lora_'."
        )

  def _found(self, params: Any) -> dict[tuple[str, ...], Axes]:
    """The weights that are adapted, by their paths, and how each is a matrix."""
    found = {}
    known = {p: nn.meta.unbox(x) for p, x in flatten_dict(params).items() if not _is_adapter(p)}
    for path, weight in known.items():
      keys = _keys(path)
      if not alike(self._adapts, keys, weight, f"adapters.at={self.at!r}"):
        continue
      axes, name = matrix_axes(keys, weight), names(keys, weight)[0]
      if axes is None:
        raise UserError(f"adapters.at={self.at!r} matches {name}, which is no matrix; narrow it.")
      sides = [math.prod(weight.shape[i] for i in some) for some in (axes.inputs, axes.outputs)]
      if self.rank > min(sides):
        raise UserError(
          f"adapters.rank={self.rank} is more than {name} has, a matrix of {sides[0]} by "
          f"{sides[1]}; choose {min(sides)} or less."
        )
      found[path] = axes
    if not found:
      some = ", ".join(names(_keys(path), x)[0] for path, x in list(known.items())[:3])
      raise UserError(f"adapters.at={self.at!r} matches no parameter; paths are {some}, ...")
    return found

  def _adapts(self, name: str) -> bool:
    return re.search(self.at, name) is not None


def _is_adapter(path: tuple[str, ...]) -> bool:
  return path[-1].endswith((A, B))


def _keys(path: tuple[str, ...]) -> tuple[jax.tree_util.DictKey, ...]:
  return tuple(map(jax.tree_util.DictKey, path))


def _boxed(x: jax.Array, letters: tuple[str | None, ...]) -> Any:
  return nn.LogicallyPartitioned(x, letters)
