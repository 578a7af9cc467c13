"""A run starts from another one's parameters, all of which are accounted for."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from flax import linen as nn
from small_model import Small, next_token

from research import Eval, Experiment, InitFrom, Sharding, data, optim, train, update, warm_start
from research.checkpoint import Checkpoints
from research.data import vocabulary
from research.errors import UserError
from research.metrics import Mean
from research.nn.layers import project
from research.overrides import override
from research.stacking import unstack

ONE = {"data": 1, "fsdp": 1, "tensor": 1}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  path = tmp_path_factory.mktemp("corpus") / "text.txt"
  words = np.random.RandomState(0).choice(["to", "be", "or", "not", "that", "is"], 2_000)
  path.write_text("\n".join(" ".join(words[i : i + 10]) for i in range(0, 2_000, 10)))
  return str(path)


@pytest.fixture(scope="module")
def source(corpus, tmp_path_factory):
  """A run of four steps with checkpoints at 2 and 4, and its experiment."""
  experiment = Experiment(
    name="source",
    data=data.Text(data.Files(corpus, separator="\n"), data.Bytes(), length=16),
    model=Small(),
    objective=next_token,
    optimizer=optim.AdamW(1e-2),
    steps=4,
    batch_size=4,
    average=0.5,
    evals={"heldout": Eval(next_token, batches=1, every=2)},
    save_every=2,
    sharding=Sharding(mesh=ONE),
  )
  folder = tmp_path_factory.mktemp("source")
  run(experiment, folder)
  return experiment, folder


@pytest.fixture
def tuned(source):
  """An experiment that goes on from it."""
  experiment, folder = source
  changed = {"name": "tuned", "average": None, "init_from": InitFrom(str(folder)), "seed": 1}
  return dataclasses.replace(experiment, **changed)


def run(experiment, folder, devices=1):
  mesh = experiment.sharding.make_mesh(jax.devices()[:devices])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Sharding, "make_mesh", lambda self: mesh)
    return train.train(experiment, folder)


def program_of(experiment, devices=1):
  mesh = experiment.sharding.make_mesh(jax.devices()[:devices])
  return update.build(experiment, mesh, update.abstract_batch(experiment))


def first(experiment, devices=1):
  """The state before the first update, and what it says of its origin."""
  return warm_start.first(experiment.init_from, program_of(experiment, devices))


def stored(folder, step, under="params"):
  """The arrays of a checkpoint under their plain names, read by Orbax alone."""
  import orbax.checkpoint as ocp

  return unstack(ocp.PyTreeCheckpointer().restore(folder / "checkpoints" / str(step))[under])


def same(found, wanted):
  assert sorted(found) == sorted(wanted)
  for name in wanted:
    np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


class Classifier(nn.Module):
  """A body of GPT's under a head of three classes."""

  body: nn.Module

  @nn.compact
  def __call__(self, tokens_BL):
    return project("BD,DC->BC", C=3, bias=True, name="head")(self.body.encode(tokens_BL)[:, -1])


def classes(model, batch):
  """A loss of classes that follow from the tokens."""
  target_B = batch["tokens"][:, 0] % 3
  nats_B = -jax.numpy.take_along_axis(
    jax.nn.log_softmax(model(batch["tokens"])), target_B[:, None], 1
  )
  return {"loss": Mean.of(nats_B[:, 0], jax.numpy.ones(nats_B.shape[0]))}


@pytest.fixture
def classifier(tuned):
  start = dataclasses.replace(
    tuned.init_from, parts=(("body/", ""),), new=("^head/",), unused=("^head/",)
  )
  model = Classifier(tuned.model.clone(parent=None))
  return dataclasses.replace(tuned, model=model, objective=classes, evals={}, init_from=start)


def test_a_run_starts_with_the_average_of_its_source(tuned, source):
  state, origin = first(tuned)
  same(unstack(state.params), stored(source[1], 4, "average"))
  assert "checkpoints/4: " in origin["init_from"]


def test_an_imported_run_has_parameters_alone(tuned, tmp_path):
  params = program_of(dataclasses.replace(tuned, seed=2)).init().params
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    checkpoints.save(0, {"params": params})
  state, origin = first(dataclasses.replace(tuned, init_from=InitFrom(str(tmp_path))))
  same(unstack(state.params), unstack(params))
  assert "arrays of its params" in origin["init_from"]


def test_its_own_average_starts_there_too(tuned, source):
  state, _ = first(dataclasses.replace(tuned, average=0.9))
  same(unstack(state.average), stored(source[1], 4, "average"))
  assert all(
    a is not b for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(state.average))
  )


@pytest.mark.parametrize("choice", [{"step": 2}, {"highest": "heldout.loss"}])
def test_a_checkpoint_is_chosen_by_its_number_or_its_score(tuned, source, choice):
  state, _ = first(dataclasses.replace(tuned, init_from=InitFrom(str(source[1]), **choice)))
  same(unstack(state.params), stored(source[1], 2, "average"))


def test_arrays_are_read_right_onto_the_devices_that_hold_them(tuned, source):
  spread = dataclasses.replace(
    tuned,
    sharding=Sharding(mesh={"data": 1, "fsdp": 4, "tensor": 2}),
    model=tuned.model.clone(layers="scan"),
  )
  program = program_of(spread, devices=8)
  state, _ = warm_start.first(spread.init_from, program)
  for leaf, like in zip(jax.tree.leaves(state), jax.tree.leaves(program.abstract), strict=True):
    assert leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim)
  assert len(state.params["embed"]["table"].addressable_shards[0].data) < 264
  same(unstack(state.params), stored(source[1], 4, "average"))


def test_a_body_is_taken_under_another_name_and_a_head_is_new(classifier, source):
  state, origin = first(classifier)
  there, chance = stored(source[1], 4, "average"), program_of(classifier).init().params
  body = {name: x for name, x in there.items() if not name.startswith("head/")}
  same(unstack(state.params["body"]), body)
  same(unstack(state.params["head"]), unstack(chance["head"]))
  assert "new: head/bias, head/kernel; unused: head/bias, head/kernel" in origin["init_from"]


def test_only_a_fresh_run_looks_at_its_source(tuned, source, tmp_path):
  """Stopped, and resumed when the source is gone, it ends with the bits of an unbroken run."""
  copy = tmp_path / "copy"
  shutil.copytree(source[1], copy)
  tuned = dataclasses.replace(tuned, init_from=InitFrom(str(copy)))
  run(tuned, tmp_path / "whole")
  broken = tmp_path / "broken"
  shutil.copytree(tmp_path / "whole", broken)
  shutil.rmtree(broken / "checkpoints" / "4")
  shutil.rmtree(copy)
  assert run(tuned, broken).complete
  same(stored(broken, 4), stored(tmp_path / "whole", 4))
  with Checkpoints(broken / "checkpoints") as checkpoints:
    about = [checkpoints.stored(step).about["init_from"] for step in (2, 4)]
  assert about[0] == about[1] and "copy/checkpoints/4" in about[0]
  notes = (broken / "metrics.jsonl").read_text()
  assert json.loads(notes.splitlines()[0])


def told(experiment, call=first):
  with pytest.raises(UserError) as error:
    call(experiment)
  assert "\n" not in str(error.value)
  return str(error.value)


def test_a_missing_run_is_told(tuned):
  assert "runs/none holds no checkpoints" in told(
    dataclasses.replace(tuned, init_from=InitFrom("runs/none"))
  )


def test_a_missing_step_or_measure_is_told_with_those_that_there_are(tuned, source):
  run = str(source[1])
  said = told(dataclasses.replace(tuned, init_from=InitFrom(run, step=3)))
  assert "no checkpoint of step 3; it has 2, 4" in said
  said = told(dataclasses.replace(tuned, init_from=InitFrom(run, lowest="heldout.los")))
  assert "measured by 'heldout.los'" in said and "heldout.loss" in said


@pytest.mark.parametrize(
  "overrides, words",
  [
    (
      {"model.width": 32, "model.heads": 4},
      "blocks/0/out/bias is float32[16], wanted float32[32]",
    ),
    ({"model.depth": 3}, "blocks/2/out/bias is missing"),
    ({"model.depth": 1}, "blocks/1/out/bias is left over"),
  ],
)
def test_another_architecture_is_told_by_its_arrays(tuned, overrides, words):
  said = told(override(tuned, overrides))
  assert words in said and "more" in said and "init_from" in said


def test_what_is_left_over_may_be_named(tuned):
  start = dataclasses.replace(tuned.init_from, unused=("^blocks/1/",))
  state, origin = first(override(dataclasses.replace(tuned, init_from=start), {"model.depth": 1}))
  assert "unused: blocks/1/" in origin["init_from"]
  assert set(state.params["blocks"]) == {"0"}


def test_another_vocabulary_is_told(tuned, source, tmp_path):
  shutil.copytree(source[1], tmp_path / "copy")
  vocabulary.write(tmp_path / "copy" / "vocabulary", {"kind": "another"})
  tuned = dataclasses.replace(tuned, init_from=InitFrom(str(tmp_path / "copy")))
  said = told(tuned, lambda experiment: run(experiment, tmp_path / "run"))
  assert "other tokens" in said and "data.FromRun(" in said


@pytest.mark.parametrize("own", ["theirs", "ours"])
def test_another_source_vocabulary_is_told(own, tmp_path):
  for run in ("theirs", "ours"):
    vocabulary.write(tmp_path / run / "vocabulary", {"kind": "shared"})
  start = InitFrom(str(tmp_path / "theirs"))
  warm_start.same_words(start, tmp_path / "ours")
  vocabulary.write(tmp_path / own / "source_vocabulary", {"kind": "another"})
  said = told(tmp_path / "ours", lambda folder: warm_start.same_words(start, folder))
  assert "source vocabulary" in said and "FromRun" not in said
  vocabulary.write(tmp_path / own / "source_vocabulary", {"kind": "shared"})
  warm_start.same_words(start, tmp_path / "ours")


def test_the_tokenizer_of_a_run_is_the_one_that_it_was_trained_with(tuned, source, tmp_path):
  words = data.FromRun(str(source[1]))
  assert words.vocab_size == 257
  text = dataclasses.replace(tuned.data, tokenizer=words)
  assert run(dataclasses.replace(tuned, data=text, steps=1), tmp_path / "run").complete
  moved = tmp_path / "moved"
  shutil.copytree(source[1], moved)
  assert data.FromRun(str(moved)).fingerprint() == words.fingerprint()


def test_a_run_without_a_vocabulary_is_told(tmp_path):
  with pytest.raises(UserError, match="holds no vocabulary"):
    data.FromRun(str(tmp_path)).fit()


@pytest.mark.parametrize(
  "arguments, words",
  [
    ({"step": 1, "lowest": "heldout.loss"}, "choose a checkpoint each"),
    ({"new": "^head/"}, "must be a tuple"),
    ({"unused": ("(",)}, "not a regular expression"),
    ({"parts": ("body/", "")}, "must be pairs"),
  ],
)
def test_a_field_of_another_form_is_told(arguments, words):
  with pytest.raises(UserError, match=words):
    InitFrom("runs/source", **arguments)
