"""A stack of layers that is unrolled, scanned or pipelined without any other change."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from research.errors import UserError
from research.nn.pipeline import STAGE, circulate
from research.nn.platform import platform
from research.sharding import GATHERED, Layout, active

LAYERS = ("auto", "scan", "loop")
_SAVED = jax.checkpoint_policies
REMAT = {
  "none": None,
  "full": _SAVED.nothing_saveable,
  "save_dots": _SAVED.dots_with_no_batch_dims_saveable,
  "save_qkv": _SAVED.save_only_these_names("qkv"),
  # Recomputes no matrix product but the attention's own: norms, activations, softmax.
  "minimal": _SAVED.save_only_these_names("qkv", "attended", "projected", "hidden"),
}


class Stack(nn.Module):
  """`depth` layers, of which layer i is `blocks[i % len(blocks)]`: one block, or some in turn.

  A layer is a pure function of its variables, so unrolling it, scanning over it and sending it
  through a pipeline are the same computation, down to the initial parameters and, but for the
  pipeline, the randomness of dropout. Unrolled, layer i stands under `i`; scanned, the layers j,
  j + p, j + 2p, ... of the period p stand stacked under `j::p`, their first axis being N. For a
  pipeline of several rounds there is a stack for each, `start:stop:p`.

  Attributes:
    blocks: one period of layers, called as `block(x_BLD, *inputs)`.
    layers: "loop" compiles each layer, "scan" compiles one; "auto" loops on a CPU, where that is
      faster, and scans elsewhere. A pipeline always scans.
    remat: what the backward pass finds saved rather than recomputes, one of `REMAT`.
  """

  blocks: tuple[nn.Module, ...]
  depth: int
  layers: str = "auto"
  remat: str = "none"

  @nn.compact
  def __call__(self, x_BLD: Array, *inputs: Any) -> Array:
    p = len(self.blocks)
    blocks = [block.clone(parent=None, name=None) for block in self.blocks]
    key = self.make_rng("params") if self.is_initializing() else None
    dropout = self.make_rng("dropout") if self.has_rng("dropout") else None
    kept = ["cache"] if self.is_mutable_collection("cache") and key is None else []
    layout = active()
    stages = 1 if layout is None else layout.size(STAGE)

    @functools.cache
    def initial(j):
      """The parameters of the layers j, j + p, j + 2p, ..., stacked."""
      keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(j, self.depth, p))
      # A loop, which is compiled once; whatever else would be copied into each layer's slice.
      return jax.lax.map(lambda key: blocks[j].init(key, x_BLD, *inputs)["params"], keys)

    def run(j, i, piece, variables, x_BLD, *inputs):
      """Layer i, which is of the kind j: the next state, and its cache."""
      rngs = {}
      if dropout is not None:
        rngs["dropout"] = jax.random.fold_in(dropout, i)
        if piece is not None:  # each microbatch of a pipeline drops other values
          rngs["dropout"] = jax.random.fold_in(rngs["dropout"], piece)
      return blocks[j].apply(variables, x_BLD, *inputs, rngs=rngs, mutable=kept)

    auto = platform() != "cpu" or stages > 1
    if self.layers == "loop" and stages > 1:
      raise UserError(
        f"layers='loop' cannot be split over sharding.mesh.stage={stages}; choose 'scan' or 'auto'."
      )
    scanned = self.layers == "scan" or (self.layers == "auto" and auto)
    policy = _policy(self.remat, layout)
    if policy is not None:
      run = jax.checkpoint(run, policy=policy, prevent_cse=not scanned, static_argnums=(0,))
    unroll = self._scan if scanned else self._loop
    return unroll(run, initial, layout if stages > 1 and not kept else None, x_BLD, *inputs)

  def _loop(self, run: Callable, initial: Callable, _: None, x_BLD: Array, *inputs: Any) -> Array:
    p = len(self.blocks)
    for i in range(self.depth):
      variables = self._variables(
        str(i), lambda i=i: jax.tree.map(lambda stacked: stacked[i // p], initial(i % p))
      )
      x_BLD, cache = run(i % p, i, None, variables, x_BLD, *inputs)
      self._keep(str(i), cache)
    return x_BLD

  def _scan(
    self, run: Callable, initial: Callable, layout: Layout | None, x_BLD: Array, *inputs: Any
  ) -> Array:
    p = len(self.blocks)
    rounds = self._rounds(layout)
    turns = self.depth // p // rounds  # of one round
    rounds_of_names = [[_name(j, p, r, rounds, turns) for j in range(p)] for r in range(rounds)]

    def stacked(j, r):
      """The layers of kind j that round r passes, with the axis that stacks them named."""
      part = jax.tree.map(lambda w: w[r * turns : (r + 1) * turns], initial(j))
      return nn.meta.add_axis(part, 0, {nn.PARTITION_NAME: "N"})

    variables = [
      [self._variables(name, functools.partial(stacked, j, r)) for j, name in enumerate(names)]
      for r, names in enumerate(rounds_of_names)
    ]

    def several(first, piece, variables, x_BLD, inputs):
      """As many turns of the p kinds as `variables` hold, the first layer being `first`."""

      def turn(x_BLD, layers):
        i, of_turn = layers
        caches = []
        for j in range(p):
          x_BLD, cache = run(j, i + j, piece, of_turn[j], x_BLD, *inputs)
          caches.append(cache)
        return x_BLD, caches

      count = jax.tree.leaves(variables)[0].shape[0]
      return jax.lax.scan(turn, x_BLD, (first + p * jnp.arange(count), variables))

    if layout is not None and not self.is_initializing():
      stage = lambda first, *rest: several(p * first, *rest)[0]  # noqa: E731
      return circulate(stage, variables, x_BLD, inputs, layout)
    for r, names in enumerate(rounds_of_names):
      x_BLD, caches = several(r * turns * p, None, variables[r], x_BLD, inputs)
      for name, cache in zip(names, caches):
        self._keep(name, cache)
    return x_BLD

  def _rounds(self, layout: Layout | None) -> int:
    """Stacks that the layers of a kind stand in: as the parameters at hand say, or as wanted."""
    p = len(self.blocks)
    present = self.variables.get("params", {})
    if present and not self.is_initializing():
      return len(present) // p
    stages, rounds = (1, 1) if layout is None else (layout.size(STAGE), layout.rounds)
    if self.depth % (p * stages * rounds):
      way_out = "layers='loop'" if layout is None else "fewer stages or rounds"
      of = f"{stages} pipeline stages in {rounds} rounds" if layout else "a scan"
      raise UserError(
        f"depth={self.depth} layers, in turns of {p}, cannot be cut evenly for {of}: choose a "
        f"multiple of {p * stages * rounds}, or {way_out}."
      )
    return rounds

  def _variables(self, name: str, initialize: Callable) -> dict[str, Any]:
    """What a layer is a function of: its parameters and, while decoding, its cache."""
    if self.has_variable("params", name):
      variables = {"params": self.get_variable("params", name)}
    else:
      variables = {"params": self.param(name, lambda key: initialize())}
    if self.has_variable("cache", name):
      variables["cache"] = self.get_variable("cache", name)
    return variables

  def _keep(self, name: str, kept: dict[str, Any]) -> None:
    if "cache" in kept:
      self.put_variable("cache", name, kept["cache"])


def _name(j: int, p: int, r: int, rounds: int, turns: int) -> str:
  """Where the layers of kind j in round r stand: the slice of all layers that they are."""
  if rounds == 1:
    return f"{j}::{p}"
  first = r * turns * p
  return f"{first + j}:{first + turns * p}:{p}"


def _policy(remat: str, layout: Layout | None) -> Callable[..., bool] | None:
  """The policy of a name; weights that were gathered from other devices are never kept."""
  if remat == "none" and layout is not None and layout.of_activations:
    return _SAVED.save_anything_except_these_names(GATHERED)
  return REMAT[remat]
