"""A stack sent through a pipeline computes what the same layers compute one after another."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.mesh import Sharding
from research.nn import Block, Mask, Stack
from research.sharding import use
from research.stacking import restack, unstack

B, L, D, HIDDEN = 16, 12, 16, 48


def inputs():
  random = np.random.RandomState(0)
  x_BLD = jnp.asarray(random.normal(size=(B, L, D)), jnp.float32)
  segments_BL = jnp.asarray(np.sort(random.randint(0, 3, size=(B, L)))[:, ::-1].copy())
  return x_BLD, Mask(causal=True, segments_BL=segments_BL), jnp.arange(L)[None]


def stack(depth=8, layers="scan", kinds=1, remat="none"):
  blocks = tuple(Block(heads=2, hidden=HIDDEN, rotary=1e4, window=w) for w in (None, 3)[:kinds])
  return Stack(blocks, depth, layers, remat)


def value_and_gradients(model, variables, layout=None):
  def total(params, x, *rest):
    y = model.apply({"params": params}, x, *rest)
    return jnp.sum(jnp.sin(y)), y

  run = jax.jit(jax.value_and_grad(total, has_aux=True))
  if layout is None:
    return run(variables["params"], *inputs())
  with use(layout):
    return run(variables["params"], *inputs())


@pytest.mark.parametrize(
  ("stages", "rounds", "waves", "kinds", "remat"),
  [
    pytest.param(4, 1, 2, 1, "full", marks=pytest.mark.slow),
    pytest.param(2, 2, 2, 1, "none", marks=pytest.mark.slow),
    pytest.param(2, 2, 1, 2, "save_qkv", marks=pytest.mark.slow),
  ],
)
def test_a_pipeline_equals_a_loop(stages, rounds, waves, kinds, remat):
  sharding = Sharding({"stage": stages, "fsdp": -1}, rounds=rounds, waves=waves)
  layout = sharding.layout(sharding.make_mesh())
  looped, piped = stack(layers="loop", kinds=kinds), stack(kinds=kinds, remat=remat)
  variables = nn.meta.unbox(looped.init(jax.random.key(0), *inputs()))
  with use(layout):
    begun = nn.meta.unbox(piped.init(jax.random.key(0), *inputs()))
  for name, array in unstack(variables).items():  # the same initial values under the same names
    np.testing.assert_allclose(array, unstack(begun)[name], rtol=1e-6)
  (_, y), gradients = value_and_gradients(looped, variables)
  (_, y_piped), gradients_piped = value_and_gradients(piped, begun, layout)
  np.testing.assert_allclose(y, y_piped, atol=1e-5)
  gradients, gradients_piped = unstack(gradients), unstack(gradients_piped)
  assert gradients.keys() == gradients_piped.keys()
  for name, gradient in gradients.items():
    limit = 1e-5 * np.max(np.abs(gradient))
    np.testing.assert_allclose(gradient, gradients_piped[name], atol=limit, rtol=0, err_msg=name)


def test_stages_hand_states_to_their_neighbours_and_gather_no_weights():
  sharding = Sharding({"stage": 4}, rounds=2)
  layout = sharding.layout(sharding.make_mesh(jax.devices()[:4]))
  model = stack()
  with use(layout):
    boxed = jax.eval_shape(model.init, jax.random.key(0), *inputs())
    places = jax.tree.map(
      lambda box: layout.sharding([n or "." for n in box.names], box.unbox().shape),
      boxed,
      is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata),
    )
    params = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), nn.meta.unbox(boxed), places
    )
    run = jax.jit(lambda variables, *rest: model.apply(variables, *rest))
    text = run.lower(params, *inputs()).compile().as_text()
  assert "collective-permute" in text
  gathered = [line for line in text.splitlines() if " all-gather(" in line]
  assert not [line for line in gathered if f"{HIDDEN}" in line.split(" all-gather(")[0]]


def test_a_pipelined_checkpoint_restacks_into_any_other_order():
  tree = {"0:4:1": np.arange(4), "4:8:1": np.arange(4, 8)}
  whole = restack(unstack(tree), {"0::1": jax.ShapeDtypeStruct((8,), np.int64)})
  np.testing.assert_array_equal(whole["0::1"], np.arange(8))


@pytest.mark.parametrize(
  ("depth", "batch", "told"),
  [
    (6, B, r"depth=6 .* multiple of 4"),
    (8, 6, r"a batch of 6 rows .* 4 microbatches .* that 4 divides"),
  ],
)
def test_what_cannot_be_cut_into_stages_is_told(depth, batch, told):
  sharding = Sharding({"stage": 2}, rounds=2)
  x_BLD = inputs()[0][:batch]
  layout = sharding.layout(sharding.make_mesh(jax.devices()[:2]))
  with use(layout), pytest.raises(UserError, match=told):
    model = stack(depth)
    variables = nn.meta.unbox(model.init(jax.random.key(0), x_BLD, None, jnp.arange(L)[None]))
    model.apply(variables, x_BLD, None, jnp.arange(L)[None])
