"""What an experiment needs of each device, told from its shapes: seconds, and no compiler.

Exact: parameters and the optimizer's state, from their shardings; FLOPs, counted in the traced
program. Estimated: what the backward pass keeps, from the residuals that JAX would save, each
split as its dimensions' letters are; what travels, in closed form. Compiled programs needed 7 to
10 % more or less than the sum.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import re
from collections.abc import Iterator
from typing import Any

import jax
from flax import linen as nn

from research import flops, sharding, update
from research.experiment import Experiment
from research.nn import platform
from research.nn.stack import REMAT
from research.overrides import override
from research.plan import collectives, traffic
from research.plan.trace import Buffer, Trace
from research.sharding import axes_of
from research.stacking import spell

_PLAIN = "plain"  # no platform of that name has kernels: every product is a dot_general
_SAVED = re.compile(r"(\w+)\[([\d,]*)\] (.*)")
_WHERE = re.compile(r"from (\S+?):(\d+)(?::\d+)? \((.*)\)")


def trace(experiment: Experiment, devices: int) -> Trace:
  """Traces a step on so many devices.

  Raises:
    UserError: a mesh that does not fit the devices, or sizes that it does not divide.
  """
  return Tracing(experiment, devices).result()


def policies(experiment: Experiment) -> tuple[str, ...]:
  """The remat policies that the model could take; its own is among them."""
  return tuple(REMAT) if getattr(experiment.model, "remat", None) in REMAT else ("none",)


def with_policy(experiment: Experiment, policy: str) -> Experiment:
  """The experiment under a remat policy."""
  if getattr(experiment.model, "remat", policy) == policy:
    return experiment
  return override(experiment, {"model.remat": policy})


class Tracing:
  """The parts of a trace share the mesh, the abstract state and the batch of one microbatch."""

  def __init__(self, experiment: Experiment, devices: int):
    self.experiment, self.devices = experiment, devices
    self.layout = experiment.sharding.on(devices)
    self.batch = update.abstract_batch(experiment)
    self.piece = {
      name: jax.ShapeDtypeStruct((x.shape[0] // experiment.microbatches, *x.shape[1:]), x.dtype)
      for name, x in self.batch.items()
    }
    with platform.compiling_for(_PLAIN):
      self.state = update.build(experiment, self.layout.mesh, self.batch).abstract
    with platform.compiling_for(_PLAIN), sharding.use(self.layout):
      named = update.parameters(experiment, self.piece)
    self.boxes = [(letters, shape) for _, letters, shape in named]
    self.letters = self._letters()
    sizes = tuple(leaf.size for leaf in jax.tree.leaves(self.state.params))
    self.traffic = traffic.of(experiment.model, self.batch, sizes)

  def result(self) -> Trace:
    experiment = self.experiment
    names = policies(experiment)
    policy = getattr(experiment.model, "remat", "none") if len(names) > 1 else "none"
    kept = {name: self._kept(name) for name in names}
    gradient = {name: self._flops(name) for name in names}
    forward, attention = self._forward_flops()
    parts = {
      "parameters": self.state.params,
      "optimizer": self.state.opt_state,
      "average": self.state.average,
    }
    state = {name: sum(map(_bytes, jax.tree.leaves(part))) for name, part in parts.items() if part}
    per_step = experiment.microbatches / self.devices
    return Trace(
      mesh=dict(self.layout.mesh.shape),
      parameters=sum(x.size for x in jax.tree.leaves(self.state.params)),
      tokens=update.tokens_of(self.batch),
      state=state,
      gradients=state["parameters"] * (1 if experiment.microbatches == 1 else 2),
      kept=kept,
      passing=self._passing(kept),
      policy=policy,
      flops=3 * forward * per_step,
      attention=3 * attention * per_step,
      computed={name: count * per_step for name, count in gradient.items()},
      wire=self.traffic.sent(
        self.layout,
        [leaf.sharding.spec for leaf in jax.tree.leaves(self.state.params)],
        policy=policy,
        microbatches=experiment.microbatches,
      ),
      largest=[
        Buffer(_bytes(leaf), spell(path))
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.state)
      ],
    )

  def _loss(self, experiment: Experiment):
    score = nn.apply(experiment.objective, experiment.model)

    def loss(params, batch):
      rngs = {"dropout": jax.random.key(0)}
      return score({"params": params}, batch, rngs=rngs)["loss"].total

    return loss

  def _letters(self) -> dict[int, set[str]]:
    """Which letters of the parameters have a size."""
    found: dict[int, set[str]] = {}
    for names, sizes in self.boxes:
      for letter, size in zip(names, sizes):
        if letter != ".":
          found.setdefault(size, set()).add(letter)
    return found

  def _kept(self, policy: str) -> list[Buffer]:
    """What the backward pass finds saved, as the TPU's kernels save it."""
    loss = self._loss(with_policy(self.experiment, policy))
    said = io.StringIO()
    with (
      platform.compiling_for("tpu"),
      sharding.use(self.layout),
      contextlib.redirect_stdout(said),
    ):
      jax.ad_checkpoint.print_saved_residuals(loss, self.state.params, self.piece)
    return sorted(self._buffers(said.getvalue()), key=lambda buffer: -buffer.bytes)

  def _buffers(self, text: str) -> Iterator[Buffer]:
    for line in text.splitlines():
      found = _SAVED.match(line)
      if not found or "from the argument" in line or "from a constant" in line:
        continue
      sizes = tuple(int(size) for size in found[2].split(",") if size)
      size = math.prod(sizes) / self.parts(sizes, self.layout) * _itemsize(found[1])
      where = _WHERE.search(found[3])
      location = collectives.short(f"{where[1]}:{where[2]}") if where else ""
      what = f"{found[1]}[{found[2]}] kept for the backward pass"
      yield Buffer(size, what, location, found[1], sizes)

  def parts(self, sizes: tuple[int, ...], layout: sharding.Layout) -> int:
    """Over how many devices of a layout something that the backward pass keeps is spread."""
    rows = next(iter(self.piece.values())).shape[0]
    length = next((x.shape[1] for x in self.piece.values() if len(x.shape) > 1), 1)
    for names, shape in self.boxes:
      if sizes in (shape, shape[1:]):  # a weight as it is used, whole along what splits the rows
        spec = layout.spec(names, shape)
        axes = [axis for part in spec for axis in axes_of(part)]
        return math.prod(layout.size(axis) for axis in axes if axis not in layout.of_activations)
    if rows not in sizes:
      # A kernel on each device, or a pipeline, lays rows out otherwise: all devices share them.
      return layout.mesh.size if math.prod(sizes) >= rows * length else 1
    letters = []
    for size in sizes:
      if size == rows and "B" not in letters:
        letters.append("B")
      elif size == length and "B" in letters and "L" not in letters:
        letters.append("L")
      else:
        known = sorted(self.letters.get(size, set()) - {"D", "N", "L"})
        letters.append(known[0] if known and "B" in letters else ".")
    spec = layout.spec(letters, [math.lcm(size, layout.mesh.size) for size in sizes])
    return layout.shards(spec)

  def _passing(self, kept: dict[str, list[Buffer]]) -> dict[str, float]:
    """One layer's own values, which its backward pass makes again, and its gathered weights.

    What a model of bfloat16 computes in float32 is fused between products, and never stored.
    """
    layers = max((size for size, letters in self.letters.items() if "N" in letters), default=1)
    if layers == 1:
      return dict.fromkeys(kept, 0.0)
    narrow = traffic.dtype(self.experiment.model) != "float32"
    total = {
      policy: sum(b.bytes for b in buffers if not narrow or b.dtype != "f32")
      for policy, buffers in kept.items()
    }
    return {policy: max(0.0, total["none"] - size) / layers for policy, size in total.items()}

  def _flops(self, policy: str) -> float:
    """Of forward and backward pass of one microbatch, all devices, recomputation included."""
    loss = self._loss(with_policy(self.experiment, policy))
    with platform.compiling_for(_PLAIN):
      return flops.count(jax.make_jaxpr(jax.grad(loss))(self.state.params, self.piece).jaxpr)

  def _forward_flops(self) -> tuple[float, float]:
    """Of the forward pass of one microbatch, and of attention in it."""
    with platform.compiling_for(_PLAIN):
      loss = self._loss(with_policy(self.experiment, "none"))
      jaxpr = jax.make_jaxpr(loss)(self.state.params, self.piece).jaxpr
    return flops.count(jaxpr), flops.count(jaxpr, only=_of_activations)


def _of_activations(equation: Any) -> bool:
  """Whether a product has batch dimensions: of activations with one another, not with weights."""
  (_, _), (batch, _) = equation.params["dimension_numbers"]
  return len(batch) > 1


def _bytes(leaf: Any) -> float:
  """On one device."""
  return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


@functools.cache
def _itemsize(short: str) -> float:
  """Of a dtype as JAX abbreviates it: bf16, f32, i32, bool."""
  bits = re.search(r"\d+", short)
  return int(bits[0]) / 8 if bits else 1
