"""Layers: sizes and names from equations, norms, positions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.nn import Embed, LayerNorm, RMSNorm, project, rotate, sinusoidal
from research.nn.platform import compiling_for, platform


def test_an_equation_names_the_axes_of_its_weights():
  layer = project("BLD,DHK->BLHK", bias=True, H=2, K=3)
  boxed = layer.init(jax.random.key(0), jnp.ones((1, 4, 5)))["params"]
  assert boxed["kernel"].names == ("D", "H", "K")
  assert boxed["kernel"].value.shape == (5, 2, 3)
  assert boxed["bias"].names == ("H", "K")
  assert layer.apply({"params": nn.meta.unbox(boxed)}, jnp.ones((1, 4, 5))).shape == (1, 4, 2, 3)


def test_a_bias_has_the_letters_that_the_kernel_puts_into_the_output():
  boxed = project("BLHK,HKD->BLD", bias=True, D=7).init(jax.random.key(0), jnp.ones((1, 4, 2, 3)))
  assert boxed["params"]["bias"].names == ("D",)


def test_the_default_initial_variance_is_one_over_the_fan_in():
  x = jax.random.normal(jax.random.key(1), (1, 200, 8, 16))
  y, _ = project("BLHK,HKD->BLD", D=300).init_with_output(jax.random.key(0), x)
  assert abs(y.std() - 1) < 0.03


def test_layers_follow_the_dtype_of_their_input():
  x = jnp.ones((1, 2, 4), jnp.bfloat16)
  for layer in (project("BLD,DF->BLF", F=3, bias=True), LayerNorm(), RMSNorm()):
    y, variables = layer.init_with_output(jax.random.key(0), x)
    assert y.dtype == jnp.bfloat16
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(variables))


def test_norms():
  x = 3 + 2 * jax.random.normal(jax.random.key(0), (5, 64))
  y, _ = LayerNorm(epsilon=0.0).init_with_output(jax.random.key(0), x)
  np.testing.assert_allclose(y.mean(-1), 0, atol=1e-6)
  np.testing.assert_allclose(y.std(-1), 1, atol=1e-5)
  y, _ = RMSNorm(epsilon=0.0).init_with_output(jax.random.key(0), x)
  np.testing.assert_allclose(jnp.sqrt((y**2).mean(-1)), 1, atol=1e-5)
  np.testing.assert_allclose(y / x, jnp.broadcast_to((y / x)[:, :1], x.shape), rtol=1e-5)


def test_an_embedding_is_a_row_of_its_table():
  tokens = jnp.array([[3, 0, 3]])
  x, variables = Embed(5, 4).init_with_output(jax.random.key(0), tokens)
  np.testing.assert_array_equal(x, nn.meta.unbox(variables)["params"]["table"][tokens])


def test_rotation_makes_scores_depend_on_distance_alone():
  q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 8))

  def score(i, j):
    return jnp.sum(rotate(q, jnp.array([[i]])) * rotate(k, jnp.array([[j]])))

  np.testing.assert_allclose(score(3, 1), score(13, 11), rtol=1e-4)
  np.testing.assert_allclose(score(0, 0), jnp.sum(q * k), rtol=1e-6)
  assert abs(score(3, 1) - score(3, 2)) > 1e-3


def test_sinusoids_are_those_of_the_paper():
  x = sinusoidal(jnp.array([[0, 5]]), 6)
  angles = [5 / 10_000 ** (2 * i / 6) for i in range(3)]
  np.testing.assert_allclose(x[0, 0], [0, 0, 0, 1, 1, 1])
  np.testing.assert_allclose(x[0, 1], [*np.sin(angles), *np.cos(angles)], rtol=1e-5)


def test_a_program_can_be_traced_for_another_machine():
  with compiling_for("tpu"):
    assert platform() == "tpu"
  assert platform() == jax.default_backend()


def test_sizes_that_contradict_the_input_are_an_error():
  with pytest.raises(ValueError, match="zip"):
    project("BLD,DF->BLF", F=3).init(jax.random.key(0), jnp.ones((2, 4)))
