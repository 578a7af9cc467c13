"""A step of a run is taken once more, exactly, and each example of it tells what it did."""

import dataclasses
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_experiment
import tiny_pairs

from research import checkpoint, cli, update
from research.data import pipeline
from research.errors import UserError
from research.nn import Dropout, Embed, project
from research.objectives import InfoNCE, SigmoidLoss
from research.replay import reading
from research.replay.examples import Examples, examples, group
from research.replay.recall import recall, recorded

FILE = "tests/small_experiment.py"


def looked_at(experiment):
  """The examples of an experiment's first batch, on one device."""
  batch = update.abstract_batch(experiment)
  mesh = dataclasses.replace(
    experiment.sharding, mesh=dict.fromkeys(experiment.sharding.mesh, 1)
  ).make_mesh(jax.devices()[:1])
  program = update.build(experiment, mesh, batch)
  source = experiment.data.source("train")
  rows = next(pipeline.batches(source, experiment.batch_size, seed=experiment.seed, threads=0))
  return examples(experiment, program, program.init(), rows), rows


def adds_up(found):
  """The examples make up the batch: its loss, and every layer of its gradient."""
  total = (found.loss * found.weight).sum()
  np.testing.assert_allclose(total / found.weight.sum(), found.batch_loss, rtol=1e-5)
  np.testing.assert_allclose(found.share.sum(), 1.0, rtol=1e-4)
  assert (found.norms.sum(0) >= found.batch_norms * (1 - 1e-4)).all()  # the triangle's inequality


class Dropping(nn.Module):
  """Words, some of whose numbers are dropped."""

  @nn.compact
  def __call__(self, tokens_BL):
    x_BLD = Embed(32, 8, name="embed")(tokens_BL)
    return project("BLD,DV->BLV", V=32, name="head")(Dropout(0.5)(x_BLD))


class Towers(nn.Module):
  """Two maps into one space."""

  def setup(self):
    self.image = project("BP,PE->BE", E=8, init=nn.initializers.normal(0.1))
    self.words = Embed(257, 8)
    self.log_scale = self.param("log_scale", nn.initializers.constant(1.0), ())

  def encode_image(self, image):
    return self.image(image.reshape(len(image), -1) / 255.0)

  def encode_text(self, caption, end):
    return self.words(caption).mean(1)

  def scale(self):
    return jnp.exp(self.log_scale)

  def score_bias(self):
    return -2.0


@pytest.mark.slow
def test_examples_make_up_the_batch():
  found, rows = looked_at(small_experiment.experiment(batch=4))
  adds_up(found)
  assert found.groups == ("blocks/0", "blocks/1", "embed", "head")
  assert (found.weight == (rows["segments"] > 0).sum(1)).all()


def test_what_is_dropped_in_a_microbatch_is_dropped_of_each_example():
  experiment = small_experiment.experiment(batch=4)
  adds_up(looked_at(dataclasses.replace(experiment, model=Dropping(), microbatches=2))[0])


@pytest.mark.parametrize("loss", [InfoNCE(), pytest.param(SigmoidLoss(), marks=pytest.mark.slow)])
def test_an_example_of_a_contrastive_batch_is_its_own_row(loss):
  experiment = dataclasses.replace(
    tiny_pairs.experiment(), model=Towers(), objective=loss, batch_size=4, evals={}
  )
  found, _ = looked_at(experiment)
  adds_up(found)
  assert (found.weight == 1).all()
  assert len(set(found.loss)) == 4


def some(norms, loss):
  """Examples of one group."""
  norms = np.array(norms, float)[:, None]
  loss = np.array(loss, float)
  return Examples(loss, np.ones_like(loss), norms, loss / 9, norms[:1, 0], ("a",), loss.mean())


def test_the_example_that_did_most_comes_first_and_what_is_no_number_before_it():
  assert some([1, 3, np.nan, 2], [1, 1, np.nan, 1]).ranked().tolist() == [2, 1, 3, 0]
  assert some([1, 1], [1, 2]).ranked().tolist() == [1, 0]


def test_a_group_is_a_layer_or_a_module():
  assert group("decoder/blocks/11/mlp/up/kernel") == "decoder/blocks/11"
  assert group("0/kernel") == "0"
  assert group("embed/table") == "embed" and group("scale") == "scale"


def test_texts_are_read_with_their_borders_and_labels():
  rows = {
    "tokens": np.array([[5, 6, 7, 8]]),
    "segments": np.array([[1, 1, 2, 0]]),
    "label": np.array([3]),
  }
  assert reading.texts(object(), rows) == ["5 6 \u2502 7\n= label 3"]
  assert reading.pictures(rows) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A run of six steps with checkpoints at 4 and 6."""
  folder = tmp_path_factory.mktemp("run")
  assert cli.main(["run", FILE, "--workdir", str(folder)]) == 0
  return folder


def test_replaying_gives_what_was_logged_to_the_last_digit(folder, capsys):
  assert cli.main(["replay", str(folder), "--step", "6"]) == 0
  told = capsys.readouterr().out
  assert "step 6 of 6, from the checkpoint of step 4, 1 step taken again." in told
  assert "values as they were logged, to the last digit" in told
  assert f"loss {recorded(folder, 6)['loss']:.9g}" in told
  page = (folder / "replay-6.html").read_text()
  assert "Which examples did most" in page and page.count("<h3>") == 16


def test_before_the_first_checkpoint_a_run_is_begun_anew(folder):
  recalled = recall(folder, 2, most=1)
  assert (recalled.restored, recalled.passed) == (0, 0)
  assert recalled.again()["loss"] == recorded(folder, 2)["loss"]


def passed_over(folder, program, count):
  """Its last checkpoint says that it passed over so many batches."""
  with checkpoint.Checkpoints(folder / "checkpoints") as kept:
    state = kept.restore(program.abstract, 6)
    passed = jax.device_put(jnp.int32(count), state.guard.passed.sharding)
    kept.about.update(kept.stored(6).about)
    kept.save(6, dataclasses.replace(state, guard=dataclasses.replace(state.guard, passed=passed)))


def test_what_the_run_passed_over_is_passed_over(folder, tmp_path):
  """A later checkpoint knows of it, the one before does not yet."""
  recalled = recall(folder, 5, most=0)
  folder = shutil.copytree(folder, tmp_path / "run")
  passed_over(folder, recalled.program, 3)
  again = recall(folder, 5, most=0)
  source = recalled.experiment.data.source("train")
  _, numbers = pipeline.examples(source, 16, seed=0, step=4 + 3)
  assert again.passed == 3
  assert (again.numbers == numbers).all() and (again.numbers != recalled.numbers).any()


def test_where_the_checkpoint_that_it_went_back_to_is_gone_no_batches_are_guessed(folder, tmp_path):
  program = recall(folder, 5, most=0).program
  folder = shutil.copytree(folder, tmp_path / "run")
  passed_over(folder, program, 3)
  shutil.rmtree(folder / "checkpoints" / "4")
  with pytest.raises(
    UserError, match=r"of steps 0 and 6 the run went back and passed over 3 batch"
  ):
    recall(folder, 2, most=9)


@pytest.mark.parametrize(
  "step, most, told",
  [
    (9, 10, "the steps of .* are 1 to 6"),
    (0, 10, "are 1 to 6"),
    (4, 2, "3 steps were to be taken again; that is more than --most 2.*checkpoints of 4, 6"),
  ],
)
def test_a_step_that_cannot_be_replayed_is_told(step, most, told, folder):
  with pytest.raises(UserError, match=told):
    recall(folder, step, most)


def test_a_run_whose_file_has_changed_is_not_replayed(folder):
  path = folder / "experiment.json"
  kept = path.read_text()
  path.write_text(
    kept.replace('"optimizer.learning_rate": "0.01"', '"optimizer.learning_rate": "0.5"')
  )
  try:
    with pytest.raises(UserError, match=r"has changed since .*learning_rate: 0.5 -> 0.01"):
      recall(folder, 5, most=9)
  finally:
    path.write_text(kept)
