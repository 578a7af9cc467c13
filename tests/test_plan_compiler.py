"""Programs compiled for a pod, where its compiler is installed: their figures stay what they were.

`TPU_LIBRARY_PATH=.../libtpu.so pytest tests/test_plan_compiler.py`, with `--update-golden` after a
change of a model's program, or of the compiler, that is meant.
"""

import json
from pathlib import Path

import pytest

from research.data import cache
from research.errors import UserError
from research.mesh import PRESETS
from research.plan import collectives, compiler, schedule, topology

GOLDEN = Path(__file__).parent / "golden" / "plan" / "v5e_4x4.json"
LAYERS = (
  "model.width=512",
  "model.depth=2",
  "model.heads=4",
  "model.kv_heads=4",
  "model.hidden=1408",
  "data.length=1024",
  "model.max_length=1024",
  "batch_size=32",
)
tpu = pytest.mark.skipif(compiler.libtpu() is None, reason="the TPU compiler is not installed")
gpu = pytest.mark.skipif(
  not (cache.root() / "cuda").is_dir() and not compiler._has_distribution("jax-cuda12-plugin"),
  reason="the GPU compiler is not installed",
)


def compiled(machine, *words):
  request = compiler.Request("experiments/llama.py", words, 0, topology.parse(machine))
  return compiler.compile_for(request)


@tpu
@pytest.mark.slow
def test_two_layers_on_sixteen_chips_need_and_send_what_they_did(request):
  made = compiled("v5e:4x4", *LAYERS)
  entries = collectives.ledger(made.module, made.network)
  fast, slow = schedule.interval(made.module, made.network)
  found = {
    "compiler": made.facts["compiler"],
    "memory": made.facts["memory"],
    "flops": slow.flops,
    "wire": {kind: total["wire"] for kind, total in collectives.totals(entries).items()},
    "asynchronous": {k: total["asynchronous"] for k, total in collectives.totals(entries).items()},
  }
  if request.config.getoption("--update-golden"):
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
  golden = json.loads(GOLDEN.read_text())
  if golden["compiler"] != found["compiler"]:
    pytest.skip(f"the golden figures are of another compiler: {golden['compiler']}")
  assert found == golden
  assert fast.step < slow.step
  again = compiled("v5e:4x4", *LAYERS)
  assert again.cached and again.facts == made.facts


@tpu
@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_compiles_for_a_host_of_eight_chips(preset):
  words = () if preset == "fsdp" else (f"sharding={preset}",)  # the file's own is fsdp
  made = compiled("v5e:2x4", *LAYERS, *words)
  assert made.fits
  split = {axis for axis, size in PRESETS[preset].sizes(8).items() if size > 1}
  assert {axis for axis, size in made.network.mesh.items() if size > 1} == split
  if made.module is not None:  # a compiler newer than JAX may write what JAX cannot read
    sent = {axis for entry in collectives.ledger(made.module, made.network) for axis in entry.axes}
    assert split <= sent, "an axis over which nothing is sent splits nothing"


@tpu
def test_what_does_not_fit_is_refused_with_what_it_needs():
  made = compiled("v5e:4x4", "model.remat=none", "batch_size=64", "model.layers=scan")
  assert made.module is None and not made.fits
  assert made.needed > topology.parse("v5e:4x4").chip.memory


@gpu
def test_a_program_is_compiled_for_gpus_that_are_not_here():
  made = compiled("h100:2x8", *LAYERS)
  assert made.fits and made.network.mesh["fsdp"] == 16
  totals = collectives.totals(collectives.ledger(made.module, made.network))
  assert totals["all-gather"]["asynchronous"] > 0
  fast, slow = schedule.interval(made.module, made.network)
  assert 0 < fast.step < slow.step


@tpu
def test_a_compilation_that_takes_too_long_is_stopped():
  machine = topology.parse("v5e:4x4")
  request = compiler.Request("experiments/llama.py", LAYERS, 0, machine, timeout=0.2)
  with pytest.raises(UserError, match="longer than 0 s and was stopped; give it longer"):
    compiler.compile_for(request)


@tpu
def test_what_the_worker_refuses_is_told_in_one_line():
  request = compiler.Request(
    "experiments/llama.py", (*LAYERS, "sharding.mesh.fsdp=3"), 0, topology.parse("v5e:4x4")
  )
  with pytest.raises(UserError, match="choose sizes whose product is the number of devices"):
    compiler.compile_for(request)
