"""One update on eight devices is the update of one device, however the mesh splits the work."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import Experiment, Sharding, models, objectives, optim, update
from research.mesh import PRESETS
from research.overrides import override
from research.stacking import unstack

B, L, V = 16, 32, 64


def experiment(sharding, **model):
  sizes = {"vocab_size": V, "max_length": L, "width": 32, "depth": 4, "heads": 4, **model}
  return Experiment(
    name="preset",
    data=None,
    model=models.GPT(**sizes),
    objective=objectives.NextToken(),
    # Adam divides by the root of tiny second moments, which would turn rounding into differences.
    optimizer=optim.SGD(optim.Constant(0.1), clip=1.0),
    steps=2,
    batch_size=B,
    sharding=sharding,
  )


def batch():
  """Packed rows: some documents, and padding at the end of a row."""
  random = np.random.RandomState(0)
  segments = np.sort(random.randint(1, 4, size=(B, L)))
  segments[::3, -5:] = 0
  starts = np.concatenate([np.ones((B, 1), bool), np.diff(segments) != 0], axis=1)
  index = np.arange(L) - np.maximum.accumulate(np.where(starts, np.arange(L), 0), axis=1)
  tokens = random.randint(0, V, size=(2, B, L))
  rows = {"tokens": tokens[0], "targets": tokens[1], "segments": segments, "positions": index}
  return {name: np.asarray(x, np.int32) for name, x in rows.items()}


def updated(experiment, devices):
  """Two steps: the metrics, and the parameters under one name a layer."""
  rows = batch()
  mesh = experiment.sharding.make_mesh(jax.devices()[:devices])
  program = update.build(
    experiment, mesh, jax.tree.map(jax.typeof, jax.tree.map(jnp.asarray, rows))
  )
  state, losses = program.init(), []
  for _ in range(2):
    state, measured = program.step(state, program.place(rows))
    losses.append(float(measured["loss"].total / measured["loss"].weight))
    losses.append(float(measured["gradient_norm"].total))
  return np.array(losses), jax.tree.map(np.asarray, unstack(state.params))


MODERN = {
  "norm": "rms",
  "positions": "rotary",
  "activation": "swiglu",
  "bias": False,
  "tied": False,
  "kv_heads": 2,
  "windows": (None, 8),
}
MESHES = {
  **PRESETS,
  "everything": Sharding({"data": 1, "fsdp": 2, "context": 2, "tensor": 2}),
  "long_ring": Sharding({"context": 8}),
  "circular": Sharding({"stage": 2, "fsdp": 2, "tensor": 2}, rounds=2, waves=1),
  "pipelined_ring": Sharding({"stage": 2, "context": 2, "fsdp": -1}),
}


@pytest.fixture(scope="module")
def on_one_device():
  one = Sharding({"data": 1})
  return {kind: updated(experiment(one, **kind_of), 1) for kind, kind_of in KINDS.items()}


KINDS = {"gpt2": {}, "modern": MODERN}


def same(ours, one):
  np.testing.assert_allclose(ours[0], one[0], rtol=1e-5)
  assert ours[1].keys() == one[1].keys()
  for name, array in one[1].items():
    limit = 1e-5 * np.max(np.abs(array)) + 1e-7
    np.testing.assert_allclose(ours[1][name], array, atol=limit, rtol=0, err_msg=name)


# What they split, others split as well: fsdp_tp, everything, pipeline.
SLOW = {"dp", "fsdp", "hsdp", "tp", "context", "long_ring", "circular", "pipelined_ring"}


@pytest.mark.parametrize(
  "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in MESHES]
)
def test_every_mesh_updates_as_one_device(name, on_one_device):
  kind = "modern" if name in ("everything", "fsdp", "context") else "gpt2"
  scanned = {"layers": "scan", "remat": "save_qkv"} if name in ("hsdp", "fsdp_tp") else {}
  ours = updated(experiment(MESHES[name], **KINDS[kind], **scanned), 8)
  same(ours, on_one_device[kind])


@pytest.mark.slow
def test_microbatches_on_a_mesh_update_as_one_device(on_one_device):
  cut = dataclasses.replace(experiment(PRESETS["hsdp"]), microbatches=2)
  same(updated(cut, 8), on_one_device["gpt2"])


def test_gradients_of_a_shard_are_scattered_and_weights_travel_in_bfloat16():
  """No device ever holds the sum of a whole weight's gradient, nor sends float32 weights."""
  wide = experiment(PRESETS["hsdp"], dtype="bfloat16", width=64, depth=2, layers="scan")
  shapes = jax.tree.map(jax.typeof, jax.tree.map(jnp.asarray, batch()))
  program = update.build(wide, wide.sharding.make_mesh(), shapes)
  text = program.step.lower(program.abstract, shapes).as_text()
  gathers = [
    line
    for line in text.splitlines()
    if "custom_call @Sharding" in line or "sharding_constraint" in line
  ]
  weights = [line for line in gathers if "tensor<64x256x" in line]
  assert weights and all("bf16" in line for line in weights)


def test_a_preset_by_name_and_sizes_by_hand_are_overrides():
  changed = override(experiment(Sharding()), {"sharding": "fsdp_tp", "sharding.mesh.tensor": 4})
  assert dict(changed.sharding.mesh)["tensor"] == 4
  assert override(experiment(Sharding()), {"sharding": "fsdp=4,tensor=2"}).sharding == Sharding(
    {"fsdp": 4, "tensor": 2, "data": 1}
  )
