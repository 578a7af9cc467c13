"""What an experiment needs of each device, told from its shapes: seconds, and no compiler.

Exact: parameters and the optimizer's state, from their shardings; FLOPs, counted in the traced
program. Estimated: what the backward pass keeps, from the residuals that JAX would save, each
split as its dimensions' letters are; what travels, in closed form. Compiled programs needed 7 to
10 % more or less than the sum.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import AbstractMesh, AxisType

from research import flops, sharding, train
from research.experiment import Experiment, override
from research.nn import platform
from research.nn.transformer import REMAT
from research.plan import batches, collectives

_PLAIN = "plain"  # no platform of that name has kernels: every product is a dot_general
_SAVED = re.compile(r"(\w+)\[([\d,]*)\] (.*)")
_WHERE = re.compile(r"from (\S+?):(\d+)(?::\d+)? \((.*)\)")


@dataclasses.dataclass(frozen=True)
class Buffer:
  """Something that takes memory: bytes on one device, what it is, where it is made, its shape."""

  bytes: float
  what: str
  line: str = ""
  dtype: str = "f32"
  sizes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Trace:
  """A step of an experiment on a mesh; bytes and FLOPs are of one device, unless said.

  Attributes:
    mesh: sizes by axis.
    parameters: in all.
    tokens: of a step, in all; examples where a batch has none.
    state: bytes by kind: parameters, optimizer, average.
    gradients: bytes.
    kept: by remat policy, what the forward pass keeps for the backward pass.
    passing: bytes of one layer's backward pass beside that.
    policy: the experiment's own, or "none" where its model knows no policies.
    flops: of the model, by the usual count: masked attention in full, recomputation not at all.
    attention: the part of them between queries, keys and values; a causal mask leaves half.
    computed: FLOPs that the compiled program will do, by policy; masked attention in full.
    wire: bytes sent, by kind of collective.
    largest: arrays of the state.
  """

  mesh: dict[str, int]
  parameters: int
  tokens: int
  state: dict[str, float]
  gradients: float
  kept: dict[str, list[Buffer]]
  passing: float
  policy: str
  flops: float
  attention: float
  computed: dict[str, float]
  wire: dict[str, float]
  largest: list[Buffer]

  @property
  def causal_flops(self) -> float:
    """With half of attention: what a causal model has to compute."""
    return self.flops - self.attention / 2

  def memory(self, policy: str) -> float:
    """Bytes that a step is expected to need under a remat policy."""
    kept = sum(buffer.bytes for buffer in self.kept[policy])
    return sum(self.state.values()) + self.gradients + kept + self.passing

  def buffers(self) -> list[Buffer]:
    """What takes most, of the experiment's own policy."""
    everything = [*self.largest, *self.kept[self.policy]]
    return sorted(everything, key=lambda buffer: -buffer.bytes)


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
    sizes = experiment.sharding.sizes(devices)
    mesh = AbstractMesh(
      tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes)
    )
    self.layout = experiment.sharding.layout(mesh)
    self.batch = batches.abstract(experiment)
    self.piece = {
      name: jax.ShapeDtypeStruct((x.shape[0] // experiment.microbatches, *x.shape[1:]), x.dtype)
      for name, x in self.batch.items()
    }
    with platform.compiling_for(_PLAIN):
      self.state = train.build(experiment, mesh, self.batch).abstract
    self.boxes = self._boxes()
    self.letters = self._letters()

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
      tokens=train.tokens_of(self.batch),
      state=state,
      gradients=state["parameters"] * (1 if experiment.microbatches == 1 else 2),
      kept=kept,
      passing=self._passing(kept, policy),
      policy=policy,
      flops=3 * forward * per_step,
      attention=3 * attention * per_step,
      computed={name: count * per_step for name, count in gradient.items()},
      wire=self._wire(policy),
      largest=[
        Buffer(_bytes(leaf), jax.tree_util.keystr(path, simple=True, separator="/"))
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.state)
      ],
    )

  def _loss(self, experiment: Experiment):
    score = nn.apply(experiment.objective, experiment.model)

    def loss(params, batch):
      rngs = {"dropout": jax.random.key(0)}
      return score({"params": params}, batch, rngs=rngs)["loss"].total

    return loss

  def _boxes(self) -> list[tuple[list[str], tuple[int, ...]]]:
    """The letters and sizes of every parameter."""
    with platform.compiling_for(_PLAIN), sharding.use(self.layout):
      init = nn.init(self.experiment.objective, self.experiment.model)
      boxed = jax.eval_shape(init, jax.random.key(0), self.piece)["params"]
    boxes = jax.tree.leaves(boxed, is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata))
    return [
      ([name or "." for name in box.names], box.unbox().shape)
      if isinstance(box, nn.meta.AxisMetadata)
      else (["."] * box.ndim, box.shape)
      for box in boxes
    ]

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
    """Over how many devices of a layout an activation of these sizes is spread."""
    rows = next(iter(self.piece.values())).shape[0]
    length = next((x.shape[1] for x in self.piece.values() if len(x.shape) > 1), None)
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
    return math.prod(layout.size(axis) for part in spec for axis in _axes(part))

  def _passing(self, kept: dict[str, list[Buffer]], policy: str) -> float:
    """One layer's own values, which its backward pass makes again, and its gathered weights.

    What a model of bfloat16 computes in float32 is fused between products, and never stored.
    """
    layers = max((size for size, letters in self.letters.items() if "N" in letters), default=1)
    if layers == 1 or policy == "none" or "none" not in kept:
      return 0.0
    narrow = getattr(self.experiment.model, "dtype", "float32") != "float32"
    total = {
      name: sum(b.bytes for b in kept[name] if not narrow or b.dtype != "f32")
      for name in ("none", policy)
    }
    return max(0.0, total["none"] - total[policy]) / layers

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

  def _wire(self, policy: str) -> dict[str, float]:
    specs = [leaf.sharding.spec for leaf in jax.tree.leaves(self.state.params)]
    return self.wire(self.layout, specs, policy, self.experiment.microbatches)

  def wire(
    self, layout: sharding.Layout, specs: Sequence[Any], policy: str, microbatches: int
  ) -> dict[str, float]:
    """Gathers of weights forward and backward, sums of gradients, sums of split products."""
    sent = dict.fromkeys(("all-gather", "all-reduce", "reduce-scatter"), 0.0)
    rows = layout.of_activations
    for leaf, spec in zip(jax.tree.leaves(self.state.params), specs, strict=True):
      axes = [axis for part in spec for axis in _axes(part)]
      split = math.prod(layout.size(axis) for axis in axes if axis in rows)
      others = math.prod(layout.size(axis) for axis in axes if axis not in rows)
      whole = leaf.size / others * self.width  # of a weight in use
      rest = math.prod(layout.size(axis) for axis in rows) // split
      sent["all-gather"] += 2 * whole * (split - 1) / split
      if rest == 1:
        # Over all devices of a slice the TPU compiler sums, and then drops what is not its own.
        sent["all-reduce"] += 2 * whole * (split - 1) / split
      else:
        sent["reduce-scatter"] += whole * (split - 1) / split
        sent["all-reduce"] += 2 * whole / split * (rest - 1) / rest
    # The sum of gradients over microbatches is split as they are: each one is reduced by itself.
    sent = {kind: microbatches * size for kind, size in sent.items()}
    sent["all-reduce"] += self.tensor_wire(layout, policy)
    return {kind: size for kind, size in sent.items() if size}

  def tensor_wire(self, layout: sharding.Layout, policy: str) -> float:
    """Of products whose contracted letter is split: twice a layer forward, twice backward."""
    t, model = layout.size("tensor"), self.experiment.model
    states = train.tokens_of(self.batch) * getattr(model, "width", 0) * getattr(model, "depth", 0)
    spread = math.prod(layout.size(axis) for axis in layout.of_activations)
    return (4 if policy == "none" else 6) * states / spread * self.width * 2 * (t - 1) / t

  @property
  def width(self) -> int:
    """Bytes of an activation's value, and of a weight's on its way."""
    return 4 if getattr(self.experiment.model, "dtype", "float32") == "float32" else 2


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


def _axes(part: Any) -> tuple[str, ...]:
  return () if part is None else (part,) if isinstance(part, str) else tuple(part)
