"""What is measured of a run now and then: how far its weights move, and which units are dead.

A sample of some thousand values of each weight, before an update and after it, tells the ratio of
their norms to a few per cent; that costs next to nothing, and no second variant of the step.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from research import optim
from research.experiment import Experiment
from research.nn.platform import platform
from research.nn.transformer import MLP
from research.optim.groups import MATRICES
from research.stacking import layers, names, stacked, unstack

SAMPLED = 4096  # values of a weight
# Inputs below which an activation's slope is less than 0.002.
SILENT = {"relu": 0.0, "gelu": -4.0, "gelu_exact": -4.0, "quick_gelu": -5.0}
MOST = 1000  # weights of a model whose layers are unrolled to look at their units


class Movement:
  """How far an update moves each weight, of its norm: biases, scales and frozen ones are left out.

  Attributes:
    names: of the weights, a layer at a time.
  """

  def __init__(self, experiment: Experiment, params: Any, everywhere: Any):
    """Compiles nothing yet.

    Args:
      experiment: which parameters are trained.
      params: their shapes.
      everywhere: the sharding of a result that every process reads; None for one process.
    """
    groups = getattr(experiment.optimizer, "groups", optim.USUAL)
    self._at = [
      i
      for i, name in enumerate(names(params))
      if re.search(MATRICES, name) and not any(map(groups.freezes, layers(name, 1)))
    ]
    self._stacked = [stacked(name) for name in names(params)]
    shapes = jax.tree.leaves(params)
    self.names = [
      layer
      for i, name in enumerate(names(params))
      if i in self._at
      for layer in layers(name, shapes[i].shape[0])
    ]
    self.sample = jax.jit(self._sample)
    self.ratios = jax.jit(self._ratios, out_shardings=everywhere)

  def _sample(self, params: Any) -> list[jax.Array]:
    """A grid of values of each weight, layers first; slices, since those of a shard stay there."""
    leaves = jax.tree.leaves(params)
    return [_grid(leaves[i] if self._stacked[i] else leaves[i][None]) for i in self._at]

  def _ratios(self, before: list[jax.Array], after: list[jax.Array]) -> jax.Array:
    """In the order of `names`."""

    def norms(x):
      return jnp.sqrt(jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim))))

    return jnp.concatenate([norms(b - a) / norms(a) for a, b in zip(before, after)])


class Units:
  """Which units of ungated MLPs are silent for every token: no gradient goes through them.

  Layers are unrolled and none is computed twice, so that each can hand out what is seen in it. On
  several accelerators kernels need a layout, under which layers are computed twice: there, as of
  models that cannot be unrolled, units are not looked at.

  Attributes:
    names: of the layers.
    applies: whether there is something to look at.
  """

  def __init__(
    self, experiment: Experiment, devices: int, params: Any, batch: Any, everywhere: Any
  ):
    """Traces it for the shapes `params` and `batch`; `everywhere` as of `Movement`."""
    self.names: list[str] = []
    self._experiment = experiment
    self.dead = jax.jit(self._dead, out_shardings=everywhere)
    cheap = len(unstack(params)) <= MOST and (devices == 1 or platform() == "cpu")
    if cheap:
      try:
        jax.eval_shape(self._dead, params, batch)
      except Exception:  # of whatever kind the model is: being watched is not to end a run
        self.names = []
    self.applies = bool(self.names)

  def _dead(self, params: Any, batch: Mapping[str, jax.Array]) -> list[jax.Array]:
    """(F,) bool of each layer: its silent units; in the order of `names`."""
    adapters = self._experiment.adapters
    flat = unstack(params if adapters is None else adapters.merged(params))
    by_leaf = {id(x): name.rpartition("/mlp/")[0] or name for name, x in flat.items()}
    known, found = [], []

    def watch(call: Callable, arguments: Any, named: Any, context: Any) -> Any:
      module = context.module
      called = isinstance(module, MLP) and context.method_name == "__call__"
      if called and module.activation in SILENT:
        up = module.variables["params"]["up"]
        known.append(by_leaf.get(id(up["kernel"]), f"MLP {len(known)}"))
        found.append(_dead_units(arguments[0], up, SILENT[module.activation]))
      return call(*arguments, **named)

    model = _unrolled(self._experiment.model)
    score = nn.apply(self._experiment.objective, model)
    tree = unflatten_dict({tuple(name.split("/")): x for name, x in flat.items()})
    with nn.intercept_methods(watch):
      score({"params": tree}, batch)
    self.names = known
    return found


def _dead_units(x: jax.Array, up: Mapping[str, jax.Array], above: float) -> jax.Array:
  """(F,) bool: those that are above it nowhere; (..., D) by the kernel (D, F), and the bias."""
  y = jnp.einsum("...D,DF->...F", x, up["kernel"].astype(x.dtype))
  y = y + up["bias"].astype(x.dtype) if "bias" in up else y
  return ~(y > above).any(tuple(range(y.ndim - 1)))


def _unrolled(model: nn.Module) -> nn.Module:
  """With its layers in a loop, so that what is seen in one of them can be handed out."""
  wanted = {"layers": "loop", "remat": "none"}
  return model.clone(**{name: value for name, value in wanted.items() if hasattr(model, name)})


def _grid(x: jax.Array) -> jax.Array:
  """Every so many values along each axis but the first."""
  axes = max(1, x.ndim - 1)
  each = max(1, round(SAMPLED ** (1 / axes)))
  # An odd stride does not always meet the same place of a head.
  strides = [1 if size <= each else (size // each) | 1 for size in x.shape[1:]]
  return x[(slice(None), *(slice(None, None, stride) for stride in strides))]
