"""Checkpoints hold one layer at a time, and give back what was saved or say what differs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.checkpoint import Checkpoints, names, restack, unstack
from research.errors import UserError
from research.sharding import Layout, Sharding

LAYOUT = Layout(Sharding().make_mesh(), Sharding().rules)


def scanned():
  return {
    "params": {
      "blocks": {
        "0::2": {"up": {"kernel": jnp.arange(12.0).reshape(2, 2, 3)}},
        "1::2": {"up": {"kernel": -jnp.arange(12.0).reshape(2, 2, 3)}},
      },
      "norm": {"scale": jnp.ones(3)},
    },
    "step": jnp.int32(7),
  }


def looped():
  flat = unstack(scanned())
  layers = {str(i): {"up": {"kernel": flat[f"params/blocks/{i}/up/kernel"]}} for i in range(4)}
  return {**scanned(), "params": {"blocks": layers, "norm": {"scale": jnp.ones(3)}}}


def abstract(tree):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=LAYOUT.replicated), tree
  )


def same(a, b):
  return jax.tree.structure(a) == jax.tree.structure(b) and all(
    np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


def test_layers_are_stored_one_at_a_time_whatever_the_scan():
  assert sorted(unstack(scanned())) == sorted(names(looped()))
  assert same(restack(unstack(scanned()), abstract(scanned())), scanned())


@pytest.mark.parametrize("saved", [scanned, looped])
@pytest.mark.parametrize("wanted", [scanned, looped])
def test_what_was_saved_is_restored_also_under_the_other_scan(tmp_path, saved, wanted):
  checkpoints = Checkpoints(tmp_path, keep=2)
  checkpoints.save(3, saved())
  checkpoints.close()
  assert same(Checkpoints(tmp_path).restore(abstract(wanted())), wanted())


def test_a_part_can_be_restored_on_its_own(tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=2)
  checkpoints.save(3, scanned())
  checkpoints.close()
  params = looped()["params"]
  assert same(Checkpoints(tmp_path).restore(abstract(params), under="params"), params)


@pytest.mark.parametrize(
  ("change", "told"),
  [
    (lambda t: t["params"]["norm"].update(scale=jnp.ones(4)), r"float32\[3\], wanted float32\[4\]"),
    (lambda t: t["params"]["norm"].update(scale=jnp.ones(3, jnp.bfloat16)), "wanted bfloat16"),
    (lambda t: t["params"]["norm"].update(bias=jnp.ones(3)), "params/norm/bias is missing"),
    (lambda t: t["params"].pop("norm"), "params/norm/scale is not of this model"),
  ],
)
def test_another_model_is_refused_with_what_differs(tmp_path, change, told):
  checkpoints = Checkpoints(tmp_path, keep=2)
  checkpoints.save(3, scanned())
  checkpoints.close()
  other = scanned()
  change(other)
  with pytest.raises(UserError, match=told):
    Checkpoints(tmp_path).restore(abstract(other))


def test_a_step_that_was_not_saved_names_those_that_were(tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=2)
  checkpoints.save(3, scanned())
  checkpoints.close()
  with pytest.raises(UserError, match="no checkpoint of step 4; it has 3"):
    Checkpoints(tmp_path).restore(abstract(scanned()), step=4)
