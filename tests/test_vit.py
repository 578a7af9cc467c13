"""The vision transformer: patches, pools, sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.errors import UserError
from research.mesh import PRESETS
from research.models import ViT
from research.models.vit import patches
from research.sharding import use

TINY = ViT(image_size=12, patch=4, width=16, depth=2, heads=2)
IMAGE = np.random.RandomState(0).randint(0, 256, (8, 12, 12, 3)).astype(np.uint8)


def params_of(model):
  return nn.meta.unbox(jax.jit(model.init)(jax.random.key(0), IMAGE[:1]))


def test_a_patch_is_a_square_of_the_image():
  image = np.random.RandomState(0).rand(2, 6, 4, 3)
  cut = patches(jnp.array(image), 2)
  assert cut.shape == (2, 6, 12)
  np.testing.assert_array_equal(cut[1, 3], image[1, 2:4, 2:4].reshape(-1).astype(np.float32))


def test_base_with_patches_of_16_has_the_parameters_of_the_paper():
  """86 million (table 1), without a head: 85,798,656."""
  model = ViT(image_size=224, patch=16, width=768, depth=12, heads=12, layers="scan")
  image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.uint8)
  shapes = jax.eval_shape(model.init, jax.random.key(0), image)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == 85_798_656


def test_the_order_of_patches_matters_only_through_their_positions():
  model = TINY.clone(pool="mean")
  params = params_of(model)
  table = params["params"]["embed_positions"]["table"]
  turned = np.concatenate([IMAGE[:, 4:], IMAGE[:, :4]], axis=1)  # the first row of patches is last
  apply = jax.jit(model.apply)
  assert not np.allclose(apply(params, IMAGE), apply(params, turned), atol=1e-3)
  params["params"]["embed_positions"]["table"] = jnp.zeros_like(table)
  one, other = (apply(params, image) for image in (IMAGE, turned))
  np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
  "pool", ["class", "mean", pytest.param("attention", marks=pytest.mark.slow)]
)
def test_a_length_that_the_mesh_does_not_divide_changes_nothing(pool):
  """Nine patches, or ten states, over two devices of a ring and over eight."""
  model = TINY.clone(pool=pool)
  params = params_of(model)
  alone = jax.jit(model.apply)(params, IMAGE)
  layout = PRESETS["context"].layout(PRESETS["context"].make_mesh())
  with use(layout):
    together = jax.jit(lambda params, image: model.apply(params, image))(params, IMAGE)
  np.testing.assert_allclose(together, alone, atol=2e-5)


@pytest.mark.parametrize(
  ("fields", "said"),
  [
    ({"patch": 5}, "patch=5 does not divide image_size=12; choose one of 1, 2, 3, 4, 6, 12."),
    ({"pool": "clas"}, "Did you mean 'class'?"),
    ({"heads": 3}, "heads=3 does not divide width=16"),
    ({"mean": (0.5,)}, "mean has 1 colours and deviation 3"),
    ({"image_size": 8}, "give data and model the same image_size"),
  ],
)
def test_sizes_that_do_not_fit_are_said(fields, said):
  with pytest.raises(UserError) as error:
    params_of(TINY.clone(**fields))
  assert said in str(error.value)


def test_left_out_patches_are_others_each_time_and_none_without_a_key():
  model = TINY.clone(pool="mean", depth=1, patch_dropout=0.75)
  params = params_of(model)
  params["params"]["blocks"] = jax.tree.map(jnp.zeros_like, params["params"]["blocks"])

  @jax.jit
  def apply(key):
    return model.apply(params, IMAGE, rngs={"dropout": jax.random.key(key)})

  plain = jax.jit(model.apply)(params, IMAGE)
  np.testing.assert_array_equal(
    jax.jit(TINY.clone(pool="mean", depth=1).apply)(params, IMAGE), plain
  )
  # The layers do nothing: over time, the mean of the three that stay is that of all nine.
  many = jnp.stack([apply(key) for key in range(200)])
  assert np.std(many, axis=0).min() > 0.01
  np.testing.assert_allclose(many.mean(0), plain, atol=0.3)
