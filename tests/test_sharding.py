"""Letters become shardings; what does not fit is told with the rule to drop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from research.errors import UserError
from research.mesh import PRESETS, RULES, Sharding, arrange
from research.sharding import Layout, constrain, gather, use


def layout(**mesh):
  made = Sharding(mesh={"data": 1, "fsdp": 1, "tensor": 1, **mesh})
  return Layout(made.make_mesh(), made.rules)


@pytest.mark.parametrize(
  ("letters", "shape", "spec"),
  [
    ("BLD", (8, 16, 32), P(("data", "fsdp"))),
    ("DHK", (32, 4, 8), P("fsdp", "tensor")),
    ("HKD", (4, 8, 32), P("tensor", None, "fsdp")),
    ("VD", (64, 32), P("tensor", "fsdp")),
    ("V.", (64, 32), P("tensor")),
    ("BLV", (8, 16, 64), P(("data", "fsdp"), None, "tensor")),
    ("NDF", (2, 32, 64), P(None, "fsdp", "tensor")),
    ("D", (32,), P("fsdp")),
    ("K", (8,), P()),
  ],
)
def test_letters_become_partitions_and_each_axis_is_used_once(letters, shape, spec):
  made = layout(data=2, fsdp=2, tensor=2).spec(letters, shape)
  assert tuple(made) + (None,) * (len(shape) - len(made)) == tuple(spec) + (None,) * (
    len(shape) - len(spec)
  )


def test_a_size_that_does_not_divide_names_the_rule():
  with pytest.raises(UserError, match=r"H=3 .* drop the rule \('H', 'tensor'\)"):
    layout(data=4, tensor=2).spec("DHK", (32, 3, 8))


def test_one_size_may_be_left_open():
  sizes = dict(Sharding(mesh={"data": 2, "fsdp": -1}).make_mesh().shape)
  assert sizes == {"stage": 1, "data": 2, "fsdp": 4, "context": 1, "tensor": 1}


@pytest.mark.parametrize(
  ("mesh", "told"),
  [
    ({"data": 3, "fsdp": 1, "tensor": 1}, "there are 8"),
    ({"data": -1, "fsdp": -1, "tensor": 1}, "at most one is -1"),
    ({"data": 0, "fsdp": 1, "tensor": 1}, "sizes are positive"),
    ({"data": -1, "fsdp": 3, "tensor": 1}, "multiple of 3"),
    ({"data": -1, "fspd": 1, "tensor": 1}, "Did you mean 'fsdp'?"),
  ],
)
def test_a_mesh_that_does_not_fit_the_devices_is_told(mesh, told):
  with pytest.raises(UserError) as error:
    Sharding(mesh=mesh).make_mesh()
  assert told in str(error.value)


def test_constrain_pins_inside_a_layout_and_is_nothing_outside():
  x = np.zeros((8, 4, 16), np.float32)
  assert constrain(x, "BLD") is x
  with use(layout(data=4, tensor=2)):
    pinned = jax.jit(lambda x: constrain(x, "BLF") * 1.0)(x)
  assert pinned.sharding.spec == P(("data",), None, "tensor") or pinned.sharding.spec == P(
    "data", None, "tensor"
  )


class Chip:
  """A device as `arrange` sees it: a place in one of several slices."""

  platform, device_kind, process_index = "gpu", "chip", 0

  def __init__(self, number, slice_index):
    self.id, self.slice_index = number, slice_index


def in_slices(count, size=4):
  return [Chip(i, i // size) for i in range(count * size)]


def slices_along(grid, axis):
  """How many slices one meets on a walk along an axis."""
  lines = np.moveaxis(grid, axis, -1).reshape(-1, grid.shape[axis])
  return {len({chip.slice_index for chip in line}) for line in lines}


def test_what_talks_least_lies_across_slices():
  grid = arrange({"data": 2, "fsdp": 4}, {}, in_slices(2))
  assert grid.shape == (2, 4)
  assert slices_along(grid, 0) == {2} and slices_along(grid, 1) == {1}


def test_what_talks_in_every_layer_stays_within_a_slice_unless_told():
  sizes = {"data": 2, "fsdp": 2, "tensor": 8}
  grid = arrange(sizes, {}, in_slices(4, size=8))
  assert [slices_along(grid, axis) for axis in range(3)] == [{2}, {2}, {1}]
  with pytest.raises(UserError, match=r"name the axes in sharding\.slices"):
    arrange({"fsdp": 2, "tensor": 8}, {}, in_slices(4))
  assert slices_along(arrange({"tensor": 8}, {"tensor": 2}, in_slices(2)), 0) == {2}


def test_an_axis_may_span_slices_in_part():
  grid = arrange({"data": 1, "fsdp": 8}, {"fsdp": 2}, in_slices(2))
  assert [chip.slice_index for chip in grid[0]] == [0] * 4 + [1] * 4


@pytest.mark.parametrize(
  ("sizes", "slices", "told"),
  [
    ({"data": 1, "tensor": 8}, {"data": 2}, "'data' has size 1"),
    ({"data": 8}, {"data": 4}, "the devices come in 2"),
    ({"data": 8}, {"dada": 2}, "'dada' has size none"),
  ],
)
def test_slices_that_do_not_fit_are_told(sizes, slices, told):
  with pytest.raises(UserError, match=told):
    arrange(sizes, slices, in_slices(2))


def test_an_odd_number_of_slices_needs_an_axis_of_its_own():
  with pytest.raises(UserError, match=r"3 slices.*sharding\.mesh\.data=3"):
    arrange({"data": 4, "tensor": 4}, {}, in_slices(3))


def test_an_axis_that_no_rule_uses_is_told():
  rules = tuple(rule for rule in RULES if rule[1] != "tensor")
  with pytest.raises(UserError, match=r"mesh.tensor=2, but no rule splits"):
    Sharding({"data": -1, "tensor": 2}, rules).sizes(8)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_takes_a_host_of_eight(name):
  assert np.prod(list(PRESETS[name].sizes(8).values())) == 8


@pytest.mark.parametrize(
  ("fields", "told"),
  [
    ({"mesh": {"data": "x"}}, r"sharding\.mesh\.data='x' must be a whole number"),
    ({"mesh": 4}, r"sharding\.mesh=4 must be sizes by axis"),
    ({"slices": {"data": 0}}, r"sharding\.slices\.data=0 must be at least 1"),
    ({"rounds": "2"}, r"sharding\.rounds='2' must be a whole number"),
    ({"rules": (("B",),)}, r"\('B',\) is no rule; write pairs"),
    ({"rules": ("B", "data")}, "'B' is no rule"),
    ({"rules": (("B", 2),)}, r"\('B', 2\) is no rule"),
  ],
)
def test_a_sharding_that_makes_no_sense_is_told(fields, told):
  with pytest.raises(UserError, match=told):
    Sharding(**fields)


@pytest.mark.parametrize(
  "text", ["fsdp=x", "fsdp=--2", "fsdp=²", "fsdp=", "fspd", "fsdp=4;tensor=2", ""]
)
def test_a_mesh_that_cannot_be_read_names_presets_and_axes(text):
  with pytest.raises(UserError, match=r"neither a mesh nor one of dp, fsdp.*stage, data"):
    Sharding.parse(text)


def test_a_gathered_weight_is_whole_where_activations_are_split():
  made = Sharding({"fsdp": 2, "tensor": 2, "context": 2})
  made = made.layout(made.make_mesh())
  assert made.spec("DF", (32, 64)) == P(("fsdp", "context"), "tensor")
  assert made.gathered("DF", (32, 64)).spec == P(None, ("tensor",))


def test_the_gradient_of_a_gathered_weight_comes_back_in_its_shards_and_dtype():
  made = Sharding({"fsdp": 8})
  made = made.layout(made.make_mesh())

  def loss(w, x):
    with use(made):
      return jnp.sum((x @ gather(w, "DF", jnp.bfloat16)).astype(jnp.float32) ** 2)

  x = jnp.ones((16, 32), jnp.bfloat16)
  gradient = jax.jit(jax.grad(loss))(jnp.ones((32, 64)), x)
  assert gradient.dtype == jnp.float32
  assert gradient.sharding.shard_shape(gradient.shape) == (4, 64)
  np.testing.assert_allclose(gradient, 2 * 16 * 32, rtol=1e-2)
