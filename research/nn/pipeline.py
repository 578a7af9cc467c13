"""A stack of layers split over the stages of a pipeline, with a circular schedule.

GPipe (Huang et al., 2019) sends microbatches through stages that each hold a part of the layers;
Narayanan et al., 2021 (section 2.2) let a batch go around the stages in several rounds, which
shortens the time that stages wait at the start and at the end. Nothing here talks to a device: the
stages are an axis of an array, every tick runs all of them at once (`vmap`), and what one hands to
the next is a roll along that axis, which the compiler turns into messages between neighbours.

A stage waits in `stages - 1` of `waves * rounds * stages + stages - 1` ticks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from research import sharding
from research.errors import UserError
from research.sharding import Layout

STAGE = "stage"


def circulate(
  stage: Callable[..., Array],
  weights: Sequence[Any],
  x_BLD: Array,
  inputs: Any,
  layout: Layout,
) -> Array:
  """The last states, (B, L, D), of a batch that has gone `layout.rounds` times around the stages.

  Args:
    stage: (first, piece, weights, x_BLD, inputs) -> x_BLD runs neighbouring layers, of which
      `first` is the number of the first, on the microbatch `piece`.
    weights: for each round, arrays whose leading axis is that of its layers, over all stages.
    x_BLD: the states before the first layer.
    inputs: what else a layer is given; arrays of B rows are cut with the batch.
    layout: its mesh axis `stage` holds the stages.

  Raises:
    UserError: the batch does not divide into microbatches.
  """
  S, rounds, B = layout.size(STAGE), layout.rounds, x_BLD.shape[0]
  pieces = S * layout.waves
  within = layout.without(STAGE)
  rows = within.parts("B")
  if B % (pieces * rows):
    raise UserError(
      f"a batch of {B} rows cannot be cut for a pipeline into {pieces} microbatches ({S} stages "
      f"times sharding.waves={layout.waves}) of a multiple of {rows} rows, one for each device "
      f"that shares them; choose a batch size that {pieces * rows} divides, or fewer waves."
    )
  by_stage = [jax.tree.map(lambda w: w.reshape(S, -1, *w.shape[1:]), part) for part in weights]
  layers = jax.tree.leaves(by_stage)[0].shape[1]  # that a stage runs in one tick

  def cut(x):
    """(B, ...) -> (pieces, B / pieces, ...): each device keeps its own rows."""
    return x.reshape(-1, pieces, *x.shape[1:]).swapaxes(0, 1)

  def pin(x, letters, first=None):
    """All but the leading axis where their letters want them, and that one over `first`."""
    spec = PartitionSpec(first, *within.spec(letters, x.shape[1:]))
    return jax.lax.with_sharding_constraint(x, NamedSharding(layout.mesh, spec))

  cut_inputs = jax.tree.map(lambda x: cut(x) if x.ndim and x.shape[0] == B else None, inputs)

  def at(number, tick):
    """What stage `number` does in a tick: the round, and the microbatch that it holds."""
    age = jnp.maximum(tick - number, 0)  # of its microbatch, since it first met stage 0
    return age // S % rounds, age // (S * rounds) * S + age % S

  def run(number, tick, own, x_BLD):
    turn, piece = at(number, tick)
    chosen = own[0]
    for i, other in enumerate(own[1:], 1):
      chosen = jax.tree.map(lambda w, v, i=i: jnp.where(turn == i, v, w), chosen, other)
    mine = jax.tree.map(
      lambda x, rows: x if rows is None else jax.lax.dynamic_index_in_dim(rows, piece, 0, False),
      inputs,
      cut_inputs,
    )
    with sharding.use(within):
      return stage((turn * S + number) * layers, piece, chosen, x_BLD, mine)

  run_all = jax.vmap(run, in_axes=(0, None, 0, 0), spmd_axis_name=STAGE)
  numbers = jnp.arange(S)
  waiting = pin(cut(x_BLD), "BLD")

  def step(carry, tick):
    states_SBLD, done = carry
    turn, piece = at(0, tick)
    entering_BLD = jax.lax.dynamic_index_in_dim(waiting, piece, keepdims=False)
    enters = (numbers == 0) & (turn == 0)
    states_SBLD = jnp.where(enters[:, None, None, None], entering_BLD, states_SBLD)
    states_SBLD = pin(
      run_all(numbers, tick, by_stage, pin(states_SBLD, "BLD", STAGE)), "BLD", STAGE
    )
    # Each round of a microbatch ends here; the last one is written last.
    _, piece = at(S - 1, tick)
    done = jax.lax.dynamic_update_index_in_dim(done, states_SBLD[-1], piece, 0)
    return (jnp.roll(states_SBLD, 1, axis=0), pin(done, "BLD")), None

  empty_SBLD = pin(jnp.zeros((S, *waiting.shape[1:]), x_BLD.dtype), "BLD", STAGE)
  ticks = jnp.arange(layout.waves * rounds * S + S - 1)
  (_, done), _ = jax.lax.scan(step, (empty_SBLD, jnp.zeros_like(waiting)), ticks)
  return sharding.constrain(done.swapaxes(0, 1).reshape(x_BLD.shape), "BLD")
