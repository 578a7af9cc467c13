"""What is frozen stays, layers learn at rates of their own, and adapters are a change of rank r."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from small_model import Small, next_token

from research import Experiment, LoRA, Sharding, optim, update
from research.data import packing
from research.errors import UserError
from research.stacking import names, restack, unstack

PROJECTIONS = r"(query|out)/kernel$"
ADAPTERS = optim.Groups(frozen=(optim.all_but("_lora_"),))


@dataclasses.dataclass(frozen=True)
class Rows:
  """Examples by their shape; the batch is made below."""

  def example(self):
    return packing.blank(8)


TINY = Experiment(
  name="tiny",
  data=Rows(),
  model=Small(vocab_size=32),
  objective=next_token,
  optimizer=optim.SGD(0.5),
  steps=10,
  batch_size=4,
  sharding=Sharding(mesh={"data": 1, "fsdp": 1, "tensor": 1}),
)
SCANNED = dataclasses.replace(TINY, model=TINY.model.clone(layers="scan"))
SPREAD = dataclasses.replace(SCANNED, sharding=Sharding(mesh={"data": 1, "fsdp": 4, "tensor": 2}))


def batch():
  tokens = np.random.RandomState(0).randint(0, 32, (4, 9)).astype(np.int32)
  whole = {name: np.ones((4, *x.shape[1:]), x.dtype) for name, x in packing.blank(8).items()}
  return {**whole, "tokens": tokens[:, :-1], "targets": tokens[:, 1:]}


def program_of(experiment, devices=1):
  mesh = experiment.sharding.make_mesh(jax.devices()[:devices])
  return update.build(experiment, mesh, update.abstract_batch(experiment))


def stepped(program, state, steps=1):
  """The state after some steps, and what the last of them measured."""
  for _ in range(steps):
    state, measured = program.step(state, program.place(batch(), 4))
  return state, measured


def host(tree):
  """Every array by its name, a layer at a time."""
  return {name: np.array(x) for name, x in unstack(tree).items()}


def with_optimizer(experiment, **fields):
  optimizer = dataclasses.replace(experiment.optimizer, **fields)
  return dataclasses.replace(experiment, optimizer=optimizer)


def adapted(experiment, at=PROJECTIONS, rank=2, alpha=6.0):
  adapters = LoRA(at, rank, alpha)
  return dataclasses.replace(with_optimizer(experiment, groups=ADAPTERS), adapters=adapters)


# What is frozen.


def test_frozen_arrays_do_not_change_by_a_bit():
  groups = optim.Groups(frozen=(r"^embed", r"^blocks/0/"))
  adamw = optim.AdamW(0.1, weight_decay=0.1, clip=1.0, groups=groups)
  program = program_of(dataclasses.replace(TINY, optimizer=adamw, microbatches=2, average=0.9))
  state = program.init()
  layer = state.params["blocks"]["0"]["out"]
  layer["bias"] = -layer["bias"]  # -0, which + 0 would be another number
  before = host(state.params)
  state, _ = stepped(program, state, steps=2)
  for name, after in host(state.params).items():
    assert (before[name].tobytes() == after.tobytes()) == groups.freezes(name), name


def test_no_gradient_is_computed_of_what_is_frozen():
  def cost(experiment):
    program = program_of(experiment)
    lowered = program.step.lower(program.abstract, update.abstract_batch(experiment))
    return lowered.cost_analysis()["flops"]

  below = optim.Groups(frozen=(r"^embed", r"^blocks/"))
  assert cost(with_optimizer(TINY, groups=below)) < 0.7 * cost(TINY)


def test_all_but_names_what_is_left_to_train():
  groups = optim.Groups(frozen=(optim.all_but("^head/", "bias$"),))
  params = program_of(TINY).abstract.params
  trained = names(groups.trained(params))
  assert trained == [n for n in names(params) if n.startswith("head/") or n.endswith("bias")]


# Layers at rates of their own.


@pytest.mark.parametrize("experiment", [TINY, SCANNED], ids=["looped", "scanned"])
def test_layers_learn_at_a_rate_that_falls_with_depth(experiment):
  rates = optim.layerwise(0.5, depth=2)
  params = jax.tree.map(lambda x: jnp.ones(x.shape), program_of(experiment).abstract.params)
  transformation = optim.SGD(0.8, groups=optim.Groups(rates=rates)).build(10)
  updates, _ = transformation.update(params, transformation.init(params), params)
  factors = {"embed": 0.125, "blocks/0/": 0.25, "blocks/1/": 0.5, "head/": 1.0}
  for name, x in host(updates).items():
    factor = next(value for start, value in factors.items() if name.startswith(start))
    np.testing.assert_allclose(x, -0.8 * factor, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("decay, depth", [(0.0, 3), (1.5, 3), (0.5, 0)])
def test_a_decay_or_a_depth_that_is_none_is_told(decay, depth):
  with pytest.raises(UserError, match=r"decay=|depth="):
    optim.layerwise(decay, depth)


# Adapters.


@pytest.fixture(scope="module")
def trained():
  """An adapted model: the program, its first parameters and those after three steps."""
  program = program_of(adapted(TINY))
  first = program.init()
  before = host(first.params)
  state, _ = stepped(program, first, steps=3)
  return program, before, host(state.params)


def test_an_adapted_model_begins_as_the_model_itself(trained):
  program, before, _ = trained
  found, wanted = host(program.plain(restacked(before))), host(program_of(TINY).init().params)
  assert sorted(found) == sorted(wanted)
  for name in wanted:
    np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


def restacked(flat, experiment=None):
  return restack(flat, program_of(experiment or adapted(TINY)).abstract.params)


def test_with_the_identity_for_a_a_step_is_the_step_of_the_whole_weight():
  """At full rank and A = 1 the gradient of B is that of W: an update by SGD is the same."""
  plain = program_of(TINY)
  whole, _ = stepped(plain, plain.init())
  experiment = adapted(TINY, rank=16, alpha=16.0)
  program = program_of(experiment)
  state = program.init()

  def identity(path, x):
    return jnp.eye(16).reshape(x.shape) if path[-1].key.endswith("_lora_a") else x

  state = dataclasses.replace(state, params=jax.tree.map_with_path(identity, state.params))
  state, _ = stepped(program, state)
  found, wanted = host(program.plain(state.params)), host(whole.params)
  compared = [name for name in found if name.endswith(("query/kernel", "out/kernel"))]
  assert len(compared) == 4
  for name in compared:
    np.testing.assert_allclose(found[name], wanted[name], atol=1e-6, err_msg=name)


def test_the_change_is_the_product_of_the_two_arrays(trained):
  """By NumPy, for a weight of two output axes and one of two input axes."""
  program, before, after = trained
  merged = host(program.plain(restacked(after)))
  for place, equation in (("query", "dr,rhk->dhk"), ("out", "hkr,rd->hkd")):
    name = f"blocks/1/{place}/kernel"
    change = np.einsum(equation, after[f"{name}_lora_a"], after[f"{name}_lora_b"])
    assert np.abs(change).max() > 1e-4
    np.testing.assert_allclose(merged[name], before[name] + 3 * change, atol=1e-6)
    np.testing.assert_array_equal(after[name], before[name])


def test_the_merged_model_scores_what_the_adapted_one_does(trained):
  program, _, after = trained
  score = nn.apply(TINY.objective, TINY.model)
  merged = score({"params": program.plain(restacked(after))}, batch())
  state = dataclasses.replace(program.init(), params=restacked(after))
  _, measured = stepped(program, state)
  np.testing.assert_allclose(measured["loss"].total, merged["loss"].total, rtol=1e-6)


def test_only_the_narrow_arrays_are_trained_and_have_moments(trained):
  _, before, after = trained
  narrow = {name for name in before if "_lora_" in name}
  assert {name for name in before if (before[name] != after[name]).any()} == narrow
  adamw = dataclasses.replace(adapted(TINY), optimizer=optim.AdamW(1e-2, groups=ADAPTERS))
  moments = [x for x in jax.tree.leaves(program_of(adamw).abstract.opt_state) if x.ndim]
  assert sum(x.size for x in moments) == 2 * sum(before[name].size for name in narrow)


def test_weight_decay_pulls_the_adapters_of_weights():
  params = {"up": {name: jnp.ones((2, 2)) for name in ("kernel", "kernel_lora_a", "kernel_lora_b")}}
  transformation = optim.SGD(0.1, weight_decay=0.5, groups=ADAPTERS).build(1)
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = transformation.update(zeros, transformation.init(params), params)
  for name, update_of in updates["up"].items():
    np.testing.assert_allclose(update_of, 0.0 if name == "kernel" else -0.05, rtol=1e-6)


def test_scanned_on_eight_devices_adapters_learn_as_looped_on_one(trained):
  program = program_of(adapted(SPREAD), devices=8)
  state = program.init()
  before = host(state.params)
  state, _ = stepped(program, state, steps=3)
  for found, wanted in ((before, trained[1]), (host(state.params), trained[2])):
    assert sorted(found) == sorted(wanted)
    for name in wanted:
      np.testing.assert_allclose(found[name], wanted[name], atol=1e-5, err_msg=name)


def test_adapters_are_split_as_their_weights():
  params = program_of(adapted(SPREAD), devices=8).abstract.params
  splits = {
    name: (*x.sharding.spec, *[None] * (x.ndim - len(x.sharding.spec)))
    for name, x in zip(names(params), jax.tree.leaves(params), strict=True)
  }
  layer = "blocks/0::1"
  assert splits[f"{layer}/query/kernel"] == (None, "fsdp", "tensor", None)
  assert splits[f"{layer}/query/kernel_lora_a"] == (None, "fsdp", None)
  assert splits[f"{layer}/query/kernel_lora_b"] == (None, None, "tensor", None)
  assert splits[f"{layer}/out/kernel_lora_a"] == (None, "tensor", None, None)
  assert splits[f"{layer}/out/kernel_lora_b"] == (None, None, "fsdp")


@pytest.mark.parametrize(
  "fields, words",
  [
    ({"at": "querry"}, "matches no parameter"),
    ({"at": "query/bias"}, "is no matrix"),
    ({"rank": 17}, "choose 16 or less"),
    ({"rank": 0}, "at least 1"),
    ({"alpha": 0.0}, "above 0"),
    ({"at": "("}, "not a regular expression"),
  ],
)
def test_adapters_that_cannot_be_are_told(fields, words):
  with pytest.raises(UserError, match=words):
    program_of(adapted(TINY, **fields))


def test_a_weight_that_is_trained_beside_its_adapter_is_told():
  with pytest.raises(UserError, match=r"all_but\('_lora_'\)"):
    program_of(dataclasses.replace(TINY, adapters=LoRA(PROJECTIONS, 2, 2.0)))
