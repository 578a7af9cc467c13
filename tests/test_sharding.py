"""Letters become shardings; what does not fit is told with the rule to drop."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from research.errors import UserError
from research.sharding import Layout, Sharding, constrain, use


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
