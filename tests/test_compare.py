"""Two experiments, or two runs, side by side: what differs is told, and what does not is not."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from research import checkpoint, cli, load, microbatches, record
from research.compare import command, lockstep, program, runs, shapes, sides
from research.retention import Keep

FILE = "tests/small_experiment.py"


def compared(capsys, a, b, *words):
  """The exit code and what was printed."""
  code = cli.main(["compare", a, b, *words])
  out, err = capsys.readouterr()
  return code, " ".join((out + err).split())


def test_a_wider_model_tells_its_fields_parameters_bytes_and_costs(capsys):
  code, told = compared(capsys, FILE, f"{FILE} width=32 layers=scan")
  assert code == 1
  assert "model.width 16 32" in told
  # Scanned or not, layers stand under names of their own.
  more = 2 * 4 * (32 * 32 - 16 * 16)
  line = f"blocks/0..1/query/kernel float32[16, 2, 8] -> float32[32, 2, 16] +{more / 1000:.1f} kB"
  assert line in told
  assert "another one" in told or "arranged otherwise" in told


def test_another_rate_is_no_other_program(capsys):
  code, told = compared(capsys, FILE, f"{FILE} rate=0.02")
  assert code == 1
  assert "optimizer.learning_rate 0.01 0.02" in told
  assert "Training step (StableHLO): the same, to the letter They differ." in told


def test_only_constants_differ_where_only_an_exponent_does(capsys):
  code, told = compared(capsys, FILE, f"{FILE} optimizer.b1=0.75")
  assert code == 1
  assert "Training step (StableHLO): the same but for constants: 0.1 -> 0.25, 0.9 -> 0.75" in told


def test_arrays_that_lie_elsewhere_are_told_with_the_mesh(capsys):
  code, told = compared(capsys, FILE, f"{FILE} mesh=fsdp", "--devices", "4")
  assert code == 1
  assert "the mesh data=4 fsdp=4" in told
  assert "embed/table P(None, None) P(None, fsdp)" in told
  assert "Parameters: the same names and shapes" in told


def test_layers_that_are_alike_stand_in_one_line():
  names = ["a/0/w", "a/1/w", "a/2/w", "b/0/w", "b/2/w", "c/w", "a/3/w"]
  key = dict.fromkeys(names, 1) | {"a/3/w": 2}
  lines = [line for line, _ in shapes.folded(names, key)]
  assert lines == ["a/0..2/w", "b/0..2:2/w", "c/w", "a/3/w"]


def test_names_and_numbers_of_functions_are_no_difference():
  a = 'func @main() -> (f32 {jax.result_info = "[0].a"}) { call @_where_7 } func @_where_7'
  b = 'func @main() -> (f32 {jax.result_info = "[0].b"}) { call @take } func @take'
  assert program.verdict(*map(program.canonical, (a, b))).same
  assert not program.verdict(*map(program.canonical, (a, b.replace("f32", "bf16")))).same


@pytest.mark.slow
def test_a_gigantic_model_is_compared_from_its_shapes():
  a, b = (sides.side(f"experiments/gpt3.py size=175B{more}") for more in ("", " data.length=1024"))
  assert [path for path, *_ in sides.differences(a, b)] == ["data.length"]
  found = shapes.shapes_of(a.experiment, None)
  assert len(found.params) > 1_000 and found.bytes > 690e9


@pytest.mark.parametrize(
  "words, told",
  [
    (["tests/smal_experiment.py", FILE], "no such experiment file"),
    ([f"{FILE}:two", FILE], 'choose one of them in the quotes, as "tests/small_experiment.py:two'),
    ([f"{FILE}:two --only small/slwo", FILE], "Did you mean 'small/slow'?"),
    ([f"{FILE}:two --only", FILE], "--only needs the name"),
    (["tests", FILE], "holds no run"),
    (["'", FILE], "neither a folder nor a file"),
  ],
)
def test_a_side_that_cannot_be_read_is_told(words, told, capsys):
  code, said = compared(capsys, *words)
  assert code == 2 and told in said


def test_a_side_of_many_words_is_read_though_no_folder_could_be_called_so():
  name = 50 * "small_"
  assert sides.side(f"{FILE} name={name}").experiment.name == name


def test_meshes_of_two_sizes_are_both_in_the_heading(capsys):
  sizes = [f"{FILE} sharding.mesh.data={size}" for size in (2, 4)]
  assert "Placements on 2 and 4 devices" in compared(capsys, *sizes)[1]


def test_one_of_several_experiments_is_named_in_the_quotes():
  slow, fast = (sides.side(f"{FILE}:two --only small/{name}") for name in ("slow", "fast"))
  assert sides.differences(slow, fast) == [("optimizer.learning_rate", "0.001", "0.1")]


def test_side_by_side_another_rate_is_first_seen_in_the_parameters():
  a, b = (sides.side(f"{FILE}{words}").experiment for words in ("", " rate=0.02"))
  found = lockstep.lockstep(a, b, most=4)
  assert found.steps == 1 and found.losses[0][0] == found.losses[0][1]
  first = found.first  # batch and gradient were the same
  assert (first.step, first.what, first.count, first.of) == (1, "parameters", 11, 11)
  assert first == found.clear and 0.009 < first.largest < 0.011


def test_an_infinite_number_is_apart_and_of_the_same_shape():
  a, b = ({"w": np.array([1.0, x])} for x in (2.0, np.inf))
  found = lockstep.apart(1, "parameters", a, b)
  assert "by up to inf" in command._apart(found)
  other = lockstep.apart(1, "parameters", a, {"w": np.ones(3)})
  assert "of another shape" in command._apart(other)


def test_side_by_side_a_batch_is_cut_as_in_training(monkeypatch):
  """Of what each try needs, only that is made up."""
  monkeypatch.setattr(microbatches, "bytes_needed", lambda _, cut: 2**30 / cut.microbatches)
  experiment = dataclasses.replace(sides.side(FILE).experiment, memory_target=0.5)
  runner = lockstep.Runner(experiment)
  assert (runner.experiment.microbatches, experiment.microbatches) == (2, 1)


@pytest.mark.slow
def test_the_first_step_and_array_that_differ_are_printed(capsys):
  code, told = compared(capsys, FILE, f"{FILE} rate=0.02", "--step")
  assert code == 1
  assert "step 1: loss " in told
  assert "The first difference: step 1, parameters: " in told  # batch and gradient are the same
  assert "11 of 11 arrays, most of all " in told and "numbers by up to 0.01." in told


def test_another_seed_is_apart_before_the_first_step():
  a, b = (sides.side(f"{FILE}{words}").experiment for words in ("", " seed=1"))
  found = lockstep.lockstep(a, b, most=3)
  assert found.clear == found.first
  assert (found.first.step, found.first.what, found.steps) == (0, "initial values", 0)


@pytest.mark.slow
def test_rounding_is_not_taken_for_a_difference():
  a, b = (sides.side(f"{FILE}{words}").experiment for words in ("", " layers=scan"))
  found = lockstep.lockstep(a, b, most=3)
  assert found.steps == 3 and found.clear is None
  assert found.first is None or found.first.far < 1e-4


LOSSES = (3.5, 3.25, 3.0, 2.75)


def folder_of(tmp_path, name, losses=LOSSES, kernel=1.0, more=()):
  """A run folder as training leaves it: a line a step, checkpoints at the steps 2 and 4."""
  folder = tmp_path / name
  given = load.recipe(FILE)
  record.remember(folder, given, given.experiment())
  lines = [
    {"step": i, "time": hash(name) % 99, "split": "train", "loss": x}
    for i, x in enumerate(losses, 1)
  ]
  lines += [
    {"step": 2, "split": "heldout", "loss": 3.0},
    {"split": "timing", "seconds": hash(name)},
  ]
  (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
  with checkpoint.Checkpoints(folder / "checkpoints", Keep(newest=9)) as kept:
    for step in (2, 4):
      params = {"a": jnp.ones(3), "b": jnp.full(3, kernel if step == 4 else 1.0)}
      kept.save(
        step, {"params": params | {x: jnp.ones(2) for x in more}, "step": step * jnp.ones(1)}
      )
  return folder


def test_runs_that_did_the_same_are_the_same_bit_by_bit(tmp_path, capsys):
  a, b = (str(folder_of(tmp_path, name)) for name in "ab")
  code, told = compared(capsys, a, b, "--step")
  assert code == 0
  assert "metrics.jsonl: the same at all of 4 steps, up to 4" in told
  assert "Checkpoints: every array the same at steps 2, 4" in told


def test_the_first_step_and_array_at_which_runs_part_are_told(tmp_path):
  a = folder_of(tmp_path, "a")
  b = folder_of(tmp_path, "b", losses=(3.5, 3.25, 3.125, float("nan")), kernel=1.5)
  logged, saved = runs.logged(a, b), runs.saved(a, b)
  assert (logged.step, logged.split, logged.values) == (3, "train", {"loss": (3.0, 3.125)})
  assert (saved.equal, saved.step, saved.arrays, saved.of) == (2, 4, ("params/b",), 3)
  other = runs.saved(a, folder_of(tmp_path, "c", more=("d",)))
  assert (other.step, other.arrays, other.alone) == (2, (), ("params/d",))


def test_a_run_is_compared_with_a_file_but_not_step_by_step(tmp_path, capsys):
  code, told = compared(capsys, str(folder_of(tmp_path, "a")), FILE, "--step")
  assert code == 2 and "give two of a kind" in told
  assert "the same, to the letter" in told


def test_of_a_run_whose_file_has_changed_the_fields_alone_are_compared(tmp_path, capsys):
  folder = folder_of(tmp_path, "a")
  path = folder / "experiment.json"
  path.write_text(path.read_text().replace('"model.width": "16"', '"model.width": "48"'))
  code, told = compared(capsys, str(folder), FILE)
  assert code == 1 and "model.width 48 16" in told
  assert "Fields alone are compared: " in told and "has changed since" in told


@pytest.mark.slow
def test_runs_part_where_their_first_update_did(tmp_path, capsys):
  for name, words in {"a": [], "faster": ["rate=0.02"]}.items():
    assert cli.main(["run", FILE, *words, "--workdir", str(tmp_path / name)]) == 0
  code, told = compared(capsys, str(tmp_path / "a"), str(tmp_path / "faster"), "--step")
  assert code == 1
  # The first loss is that of the same initial values; the rate is logged with it.
  assert "apart first at step 1, train: learning_rate 0.00999" in told
  assert "Checkpoints: apart first at step" in told and "arrays, the first params/" in told
