"""Plans without a compiler: topologies, what shapes say, searches, mistakes."""

import json
import re

import jax
import pytest

from research import data, load, models, update
from research.cli import main
from research.errors import UserError
from research.overrides import override
from research.plan import command, compiler, figures, search, targets, topology, traffic
from research.plan.network import Network
from research.plan.tracing import Tracing, policies, trace

LLAMA = ["experiments/llama.py", "data.length=2048", "model.max_length=2048"]
SMALL = [
  "experiments/llama.py",
  "model.width=128",
  "model.depth=3",
  "model.heads=4",
  "model.kv_heads=2",
  "model.hidden=384",
  "model.vocab_size=512",
  "data.length=128",
  "model.max_length=128",
  "batch_size=64",
]


def experiment(*words):
  return load.recipe(words[0], words[1:]).experiment()


@pytest.fixture(scope="module")
def llama():
  return trace(experiment(*LLAMA), 256)


def test_topologies_are_read():
  pod = topology.parse("v5p:4x4x8")
  assert (pod.devices, pod.slices, pod.chip.dimensions) == (128, 1, 3)
  assert topology.parse("2xv5e:16x16").devices == 512
  assert topology.parse("h100:8x8").chip.platform == "cuda"
  assert str(topology.parse("2xv5e:16x16")) == "2xv5e:16x16"


@pytest.mark.parametrize(
  "text, said",
  [
    ("v5x:4x4", "Did you mean 'v5"),
    ("tpu", "v4, v5e, v5p, v6e"),
    ("v5p:4x4", "3 sides"),
    ("v5e", "2 sides"),
    ("v5e:4x", "2 sides"),
    ("v5e:0x4", "2 sides"),
    ("h100:8", "hosts x GPUs"),
    ("2xh100:8x8", "hosts, not slices"),
  ],
)
def test_an_unknown_topology_says_which_are_known(text, said):
  with pytest.raises(UserError, match=re.escape(said)):
    topology.parse(text)


def test_the_data_is_not_opened(tmp_path):
  missing = data.Text(data.Files(str(tmp_path / "none.txt")), data.HuggingFace("nowhere"), 64)
  shapes = update.abstract_batch(override(experiment(*LLAMA), {"data": missing}))
  assert shapes["tokens"].shape == (1024, 64) and str(shapes["segments"].dtype) == "int32"


@pytest.mark.slow
def test_what_a_dataset_says_of_its_examples_is_what_it_gives():
  text = experiment("experiments/ngram.py:smoke").data
  given = text.source("train").take([0], 0)
  said = text.example()
  assert {k: (v.shape, v.dtype) for k, v in said.items()} == {
    k: (v.shape, v.dtype) for k, v in given.items()
  }


def test_parameters_and_state_are_exact(llama):
  assert llama.parameters == 6_738_415_616  # of the released 7B
  assert llama.state["parameters"] == pytest.approx(4 * llama.parameters / 256, rel=1e-4)
  assert llama.state["optimizer"] == pytest.approx(8 * llama.parameters / 256, rel=1e-4)


def test_model_flops_are_six_times_parameters_and_tokens_and_attention(llama):
  tokens = 4 * 2048  # of a device
  weights = llama.parameters - 32_000 * 4096
  attention = 12 * 32 * 4096 * 2048 * tokens
  assert llama.flops == pytest.approx(6 * weights * tokens + attention, rel=1e-3)
  assert llama.causal_flops == pytest.approx(6 * weights * tokens + attention / 2, rel=1e-3)


def test_a_policy_that_keeps_less_computes_more(llama):
  order = ["full", "save_qkv", "minimal", "none"]
  memory = [llama.memory(policy) for policy in order]
  computed = [llama.computed[policy] for policy in order]
  assert memory == sorted(memory) and computed == sorted(computed, reverse=True)
  assert llama.computed["none"] == pytest.approx(llama.flops, rel=0.01)


def test_kept_queries_keys_and_values_take_what_arithmetic_says(llama):
  largest = [buffer.bytes for buffer in llama.kept["save_qkv"][:4]]
  assert largest == [32 * 4 * 2048 * 4096 * 2] * 4  # and the input of each layer


def test_weights_travel_in_the_dtype_of_the_activations(llama):
  whole = 2 * llama.parameters
  assert llama.wire["all-gather"] == pytest.approx(2 * whole * 255 / 256, rel=1e-3)
  assert llama.wire["all-reduce"] == pytest.approx(2 * whole * 255 / 256, rel=1e-3)


def test_a_split_over_tensor_divides_weights_and_activations():
  whole = trace(experiment(*SMALL), 4)
  split = trace(experiment(*SMALL, "sharding.mesh.fsdp=2", "sharding.mesh.tensor=2"), 4)
  assert split.mesh["tensor"] == 2
  assert split.state["parameters"] == pytest.approx(whole.state["parameters"], rel=0.05)
  # Twice the rows on a device; keys, queries and values are split, the layers' inputs are not.
  assert max(b.bytes for b in split.kept["full"]) == 2 * max(b.bytes for b in whole.kept["full"])
  assert sum(b.bytes for b in split.kept["save_qkv"]) < 2 * sum(
    b.bytes for b in whole.kept["save_qkv"]
  )
  assert split.wire["all-reduce"] > whole.wire["all-reduce"]


@pytest.fixture(scope="module")
def small():
  return trace(experiment(*SMALL), 16)


@pytest.mark.parametrize("preset", ["context", "fsdp_tp", "pipeline"])
def test_what_is_kept_is_shared_by_all_devices(preset, small):
  """But for tensor, which repeats the layers' inputs, and the idle turns of a pipeline."""
  deeper = ["model.depth=4" if word == "model.depth=3" else word for word in SMALL]
  other = trace(experiment(*deeper, f"sharding={preset}"), 16)
  kept = [sum(b.bytes for b in made.kept["save_qkv"]) for made in (small, other)]
  assert 0.8 < kept[1] / (4 / 3 * kept[0]) < 2


def test_a_layer_makes_again_what_its_policy_does_not_keep(llama):
  """Of every policy, not of the experiment's own alone."""
  order = ["none", "minimal", "save_qkv", "full"]
  passing = [llama.passing[policy] for policy in order]
  assert passing == sorted(passing) and passing[0] == 0 < passing[1]
  kept = sum(buffer.bytes for buffer in llama.kept["none"] if buffer.dtype != "f32")
  assert 0.9 * kept / 32 < llama.passing["full"] < kept / 32


def whole_batch(**shapes):
  return {name: jax.ShapeDtypeStruct(shape, "int32") for name, shape in shapes.items()}


TEXT = {"vocab_size": 64, "max_length": 32, "width": 8, "depth": 3, "heads": 2}
PICTURE = {"image_size": 32, "patch": 8}  # 16 patches
BOTH = {"image_width": 8, "image_depth": 3, "image_heads": 2,
        "text_width": 4, "text_depth": 2, "text_heads": 2}  # fmt: skip


@pytest.mark.parametrize(
  "model, shapes, states",
  [
    (models.GPT(**TEXT), {"tokens": (5, 32)}, 5 * 32 * 8 * 3),
    (models.Tagger(models.BERT(**TEXT), tags=3), {"tokens": (5, 32)}, 5 * 32 * 8 * 3),
    (
      models.Transformer(**TEXT, decoder_depth=1),
      {"source": (5, 20), "tokens": (5, 32)},
      5 * (20 * 3 + 32 * 1) * 8,
    ),
    (
      models.ViT(**PICTURE, width=8, depth=3, heads=2, patch_dropout=0.5),
      {"image": (5, 32, 32, 3)},
      5 * 8 * 8 * 3,
    ),
    (
      models.CLIP(vocab_size=64, embedding=4, **PICTURE, **BOTH),
      {"image": (5, 32, 32, 3), "caption": (5, 12)},
      5 * (16 * 8 * 3 + 12 * 4 * 2),
    ),
  ],
  ids=lambda value: type(value).__name__,
)
def test_states_between_layers_are_those_of_every_tower(model, shapes, states):
  assert traffic.of(model, whole_batch(**shapes), ()).states == states


def test_a_head_for_a_task_sends_what_its_body_computes_in():
  body = models.BERT(**TEXT, dtype="bfloat16")
  assert traffic.of(models.Classifier(body, labels=2), {}, ()).width == 2


@pytest.mark.slow
def test_microbatches_keep_less_and_send_more():
  one, four = (trace(experiment(*SMALL, *w), 4) for w in ([], ["microbatches=4"]))
  kept = [sum(buffer.bytes for buffer in made.kept["save_qkv"]) for made in (one, four)]
  assert kept[1] < kept[0] / 2
  assert four.wire["all-gather"] == pytest.approx(4 * one.wire["all-gather"])
  assert four.flops == pytest.approx(one.flops)


def test_the_state_is_what_training_allocates():
  made = experiment(*SMALL, "sharding.mesh.fsdp=8")
  shapes = update.abstract_batch(made)
  program = update.build(made, made.sharding.make_mesh(jax.devices()[:8]), shapes)
  state = program.init()
  first = jax.devices()[0]
  bytes_there = sum(
    shard.data.nbytes
    for leaf in jax.tree.leaves(state)
    for shard in leaf.addressable_shards
    if shard.device == first
  )
  told = sum(trace(made, 8).state.values())
  assert bytes_there == pytest.approx(told, abs=64)  # the step's counter aside


def test_a_search_ranks_what_fits():
  machine = topology.parse("v5e:4x4")
  made = experiment(*SMALL)
  found = search.Search(Tracing(made, machine.devices), machine).best()
  assert found == sorted(found, key=lambda c: (c.step, c.memory))
  assert {c.remat for c in found} == set(policies(made))
  assert all(c.memory <= 0.95 * machine.chip.memory for c in found)
  assert {c.mesh["tensor"] for c in found} >= {1, 2}


def test_what_a_search_prints_can_be_pasted():
  machine = topology.parse("v5e:4x4")
  made = experiment(*SMALL)
  for candidate in search.Search(Tracing(made, machine.devices), machine).best()[:20]:
    pasted = experiment(*SMALL, *candidate.words(made))
    assert pasted.sharding.sizes(machine.devices) == candidate.mesh
    assert pasted.microbatches == candidate.microbatches
    assert pasted.model.remat == candidate.remat


@pytest.mark.slow
def test_a_search_estimates_what_a_trace_of_the_candidate_says():
  machine = topology.parse("v5e:4x4")
  made = experiment(*SMALL)
  for candidate in search.Search(Tracing(made, machine.devices), machine).best()[:60:20]:
    traced = trace(experiment(*SMALL, *candidate.words(made)), machine.devices)
    assert candidate.memory == pytest.approx(traced.memory(traced.policy), rel=0.1)


def test_what_does_not_fit_is_told_with_buffers_and_fixes(capsys, tmp_path):
  words = [*LLAMA, "batch_size=4096", "--topology", "v5e:16x16", "--estimate"]
  assert main(["plan", *words, "--out", str(tmp_path)]) == 1
  said = capsys.readouterr().out
  assert "does not fit: is estimated to need" in said
  fixes = said.split("cheapest ways to make it fit")[1]
  assert len(re.findall(r"^ *\d+\.\d+ .*(?:microbatches|remat|mesh)", fixes, re.MULTILINE)) == 3
  largest = said.split("largest in memory:\n")[1].split("\n\n")[0]
  assert len(largest.splitlines()) == 11  # a head, and ten


def test_a_plan_leaves_a_page_and_json(tmp_path, capsys):
  assert main(["plan", *SMALL, "--topology", "v5e:4x4", "--search", "--out", str(tmp_path)]) == 0
  assert "fastest that fit" in capsys.readouterr().out
  page = (tmp_path / "llama_7B_v5e_4x4.html").read_text()
  assert "Fastest that fit" in page and "<script" not in page and "http:" not in page
  record = json.loads((tmp_path / "llama_7B_v5e_4x4.json").read_text())
  assert record["fits"] and record["devices"] == 16
  assert (
    record["memory"]["estimated_by_remat"].keys() == record["flops"]["expected_by_remat"].keys()
  )


@pytest.mark.parametrize(
  "words, said",
  [
    (["--topology", "v9:4x4"], "is not known"),
    (["--topology", "v5e:4x4", "--tokens", "many"], "300B"),
    (["--topology", "v5e:4x4", "--tokens", "0"], "300B"),
    (["--topology", "v5e:4x4", "--option", "fast"], "xla_name=value"),
    (["--topology", "v5e:4x4", "sharding.mesh.fsdp=3", "--estimate"], "product is the number"),
    (["--topology", "v5e:4x4", "sharding.mesh.fsdpp=3", "--estimate"], "Did you mean 'fsdp'"),
    (["--topology", "v5e:16x16", "--estimate"], "does not divide"),  # 64 rows, 256 devices
  ],
)
def test_a_mistake_is_one_line(words, said, capsys, tmp_path):
  assert main(["plan", *SMALL, *words, "--out", str(tmp_path)]) == 2
  captured = capsys.readouterr()
  assert said in captured.err and len(captured.err.strip().splitlines()) == 1


def test_a_counted_model_is_not_planned(capsys):
  assert main(["plan", "experiments/ngram.py", "--topology", "v5e:4x4"]) == 2
  assert "is counted, not trained" in capsys.readouterr().err


@pytest.mark.parametrize(
  "name, package", [("v5e:4x4", "libtpu=="), ("h100:1x8", "jax-cuda12-pjrt==")]
)
def test_a_missing_compiler_is_installed_by_one_line(name, package, monkeypatch, tmp_path, capsys):
  monkeypatch.setenv("TPU_LIBRARY_PATH", str(tmp_path / "none"))
  monkeypatch.setenv("RESEARCH_CACHE", str(tmp_path))
  assert main(["plan", *SMALL, "--topology", name, "--out", str(tmp_path)]) == 2
  said = capsys.readouterr().err
  assert "pip install --no-deps --target" in said and package in said


def test_numbers_of_tokens_are_read():
  assert command.count("300B") == 300e9
  assert command.count("1.4t") == 1.4e12
  assert command.count("5e9") == 5e9


def test_a_failed_compilation_is_told_in_one_line():
  class Done:
    returncode = 1
    stderr = "Traceback\n  File x\nresearch.errors.UserError: mesh of 3.\n"

  request = compiler.Request("x.py", (), 0, topology.parse("v5e:4x4"))
  assert compiler._failure(request, Done) == "mesh of 3."


@pytest.mark.parametrize(
  "said, gib",
  [
    ("Used 35.56G of 31.25G hbm. Exceeded hbm capacity by 4.31G.", 35.56),
    ("libtpu 0.0.52 (build 1.2.3): allocation of (2.5G) failed, (512.0M) before", 2.5),
    ("no figure", float("inf")),
  ],
)
def test_what_a_refused_program_needs_is_read_from_the_refusal(said, gib):
  machine = topology.parse("v5e:1x1")
  network = Network(machine, {}, (), ())
  assert compiler.Compiled({"refused": said}, None, network, False).needed == gib * topology.GIB


def test_what_nobody_knows_is_said():
  assert [figures.short(value) for value in (float("inf"), float("nan"))] == ["inf", "nan"]


@pytest.mark.parametrize("kind", ["a100", "h100", "h200"])
def test_a_gpu_is_described_by_twenty_fields(kind):
  text = targets.description(topology.CHIPS[kind])
  assert text.count(":") >= 20 and "shared_memory_per_block_optin" in text
