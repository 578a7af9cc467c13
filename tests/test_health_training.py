"""What a planted fault does in training is said in words, once; of what is well, nothing."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import planted_faults
import pytest
import small_experiment

from research import health, lora, models, objectives, optim, update
from research.errors import RunError
from research.guard import Guard
from research.health import rules
from research.health.probe import Movement, Units
from research.health.words import Unigrams
from research.metrics import Mean
from research.report import noticed
from research.train import train

RNG = np.random.RandomState(0)


def test_a_gradient_far_above_those_before_is_a_spike_and_the_next_are_counted():
  spikes = rules.Spikes()
  usual = np.exp(0.5 * RNG.standard_normal(200))
  assert not any(spikes.see(step, norm) for step, norm in enumerate(usual))
  told = spikes.see(200, 25.0)
  assert told.startswith("the gradient has a spike: its norm is 25, where ")
  assert "--step 200" in told
  assert not spikes.see(201, 60.0)
  assert not spikes.see(299, 70.0)  # not far beyond the one before
  assert "after 1 more since step 200" in spikes.see(300, 200.0)


def test_of_the_first_gradients_none_is_a_spike():
  spikes = rules.Spikes()
  assert not any(spikes.see(step, 10.0**-step) for step in range(rules.LEAST))
  assert not any(rules.Spikes().see(step, norm) for step, norm in enumerate([1e-3, 1e3, 1e-3]))


def said(losses, rates):
  """What is said of a rate, one window after another."""
  edge = rules.Edge()
  told = [edge.see(loss, rate) for loss, rate in zip(losses, rates, strict=True)]
  return [line for line in told if line]


def test_a_loss_that_rises_at_a_high_rate_is_past_the_edge_and_at_a_low_one_is_not():
  falls = np.linspace(4.0, 2.0, 200)
  rises = np.concatenate([falls, np.linspace(2.0, 3.5, 100)])
  rises += 0.05 * RNG.standard_normal(300)
  (first, *_) = said(rises, np.full(300, 0.1))
  assert first.startswith(
    "the learning rate 0.1 is past its edge: the loss of the last 50 steps is"
  )
  assert said(rises, np.concatenate([np.full(200, 0.1), np.full(100, 0.01)])) == []
  assert said(falls + 0.5 * RNG.standard_normal(200), np.full(200, 0.1)) == []


def test_a_loss_above_its_beginning_is_past_the_edge_at_once():
  losses = [3.4, 3.5, 3.6, *np.full(47, 40.0)]
  (told,) = said(losses, np.full(50, 1.0))
  assert "is 37.81 on average, above the 3.5 that it began with" in told


def test_noise_about_a_level_is_no_edge():
  losses = 0.3 + 0.2 * np.abs(RNG.standard_normal(5_000))
  assert said(losses, np.full(5_000, 1e-3)) == []


def test_weights_that_move_too_fast_or_not_at_all_are_named_at_the_second_look():
  now = {"a": 0.5, "b": 1e-3, "c": 1e-9, "d": 0.3}
  assert rules.out_of_range(now, {}) == {}
  assert rules.out_of_range({"b": 1e-3}, {"b": 1e-3}) == {}
  told = rules.out_of_range(now, now)
  assert "an update changes a by 50 %, d by 30 %; about 0.1 %" in told["fast"]
  assert "an update changes c by 1e-07 %" in told["slow"]


def test_the_baseline_is_the_entropy_of_the_targets_that_are_there():
  counted = Unigrams()
  assert math.isnan(counted.entropy())
  targets = RNG.randint(1, 32, (8, 128))
  segments = np.ones_like(targets)
  segments[:, 100:] = 0
  targets[:, 100:] = 0
  counted.see({"targets": targets, "segments": segments})
  assert counted.entropy() == pytest.approx(math.log(31), abs=0.01)
  masked = Unigrams()
  masked.see({"targets": np.array([[3, 4, 0]]), "places": np.array([[5, 9, 0]])})
  assert masked.entropy() == pytest.approx(math.log(2) + 1 / 4)
  masked.see({"image": np.zeros((2, 3))})
  assert masked.entropy() == pytest.approx(math.log(2) + 1 / 4)


def test_a_loss_no_better_than_frequencies_is_told_beyond_its_noise():
  assert rules.above_unigrams([3.0, 3.1, 2.9, 3.0], 2.9).startswith("the loss is 3 nats per token")
  assert rules.above_unigrams([2.0, 4.0, 2.0, 4.0], 2.9) == ""
  assert rules.above_unigrams([2.0, 2.1], 2.9) == rules.above_unigrams([2.0], math.nan) == ""


def test_how_far_weights_move_is_told_of_each_layer_and_of_trained_weights_alone():
  groups = optim.Groups(frozen=("^head/",))
  for layers in ("loop", "scan"):
    experiment = small_experiment.experiment(layers=layers)
    optimizer = dataclasses.replace(experiment.optimizer, groups=groups)
    experiment = dataclasses.replace(experiment, optimizer=optimizer)
    shapes = {
      name: (shape, letters)
      for name, letters, shape in update.parameters(experiment, update.abstract_batch(experiment))
    }
    tree = {}
    for name, (shape, _) in shapes.items():
      at = tree
      for part in name.split("/")[:-1]:
        at = at.setdefault(part, {})
      at[name.split("/")[-1]] = jnp.asarray(RNG.standard_normal(shape), jnp.float32)
    movement = Movement(experiment, jax.eval_shape(lambda tree=tree: tree), None)
    after = jax.tree.map(lambda x: 1.01 * x, tree)
    ratios = movement.ratios(movement.sample(tree), movement.sample(after))
    np.testing.assert_allclose(ratios, 0.01, rtol=1e-3)
    assert sorted(movement.names) == [
      "blocks/0/out/kernel",
      "blocks/0/query/kernel",
      "blocks/1/out/kernel",
      "blocks/1/query/kernel",
      "embed/table",
    ]


def of_units(activation, layers="loop"):
  """The probe of a small GPT, the shapes of its parameters, and its experiment."""
  experiment = dataclasses.replace(
    planted_faults.experiment(),
    model=models.GPT(
      vocab_size=32, max_length=16, width=16, depth=2, heads=2, activation=activation, layers=layers
    ),
    objective=objectives.NextToken(),
    batch_size=4,
  )
  batch = update.abstract_batch(experiment)
  mesh = experiment.sharding.make_mesh(jax.devices()[:1])
  program = update.build(experiment, mesh, batch)
  params = program.abstract.params
  return Units(experiment, 1, params, batch, None), params, experiment


@pytest.mark.parametrize("layers", ["loop", pytest.param("scan", marks=pytest.mark.slow)])
def test_units_that_no_token_lifts_above_zero_are_dead(layers):
  units, shapes, experiment = of_units("relu", layers)
  assert units.applies and units.names == ["blocks/0", "blocks/1"]
  params = jax.tree.map(
    lambda x: jnp.asarray(0.1 * RNG.standard_normal(x.shape), jnp.float32), shapes
  )
  up = params["blocks"]["1" if layers == "loop" else "0::1"]["mlp"]["up"]
  up["bias"] = up["bias"] - 100.0 if layers == "loop" else up["bias"].at[1].add(-100.0)
  rows = experiment.data.source("train").take(np.arange(4), 0)
  alive, dead = (float(x.mean()) for x in units.dead(params, rows))
  assert alive < 0.5 and dead == 1.0
  told = rules.dead(dict(zip(units.names, (alive, dead))))
  assert told.startswith("units are dead: 100 % of blocks/1 were silent for every token")
  assert rules.dead({"blocks/0": alive}) == ""


def test_gates_have_no_dead_units_to_look_for():
  assert not of_units("swiglu")[0].applies


class Fed:
  """Health, fed with steps that were never taken."""

  def __init__(self, folder, steps=99):
    self.notes = []
    experiment = small_experiment.experiment(steps=steps)
    self.told = health.Told(folder, self.notes.append, 0)
    self.watch = health.Health(experiment, None, self.told, start=0)

  def step(self, step, norm=1.0, skipped=0.0, loss=3.0):
    one = jnp.ones(())
    values = {"loss": loss, "gradient_norm": norm, "skipped": skipped, "learning_rate": 0.1}
    measured = {name: Mean(jnp.float32(value), one) for name, value in values.items()}
    self.watch.step(step, measured, {}, lambda: None)


def test_what_is_said_is_printed_written_and_shown_in_the_report(tmp_path):
  fed = Fed(tmp_path)
  for step in range(1, 50):
    fed.step(step, norm=50.0 if step == 40 else 1.0)
  fed.watch.settle()
  (line,) = health.read(tmp_path)
  assert (line["step"], line["kind"]) == (40, "spike 40")
  assert fed.notes == [f"step 40  {line['text']}"]
  ((title, body),) = noticed.sections(tmp_path)
  assert title == "What was noticed in training" and "<b>step 40</b> the gradient has" in body
  assert noticed.sections(tmp_path / "nowhere") == []


def test_of_a_step_that_the_guard_skips_nothing_more_is_said(tmp_path):
  fed = Fed(tmp_path)
  for step in range(1, 50):
    bad = step == 40
    fed.step(step, norm=math.nan if bad else 1.0, skipped=float(bad), loss=math.nan if bad else 3.0)
  fed.watch.settle()
  assert fed.notes == []


def test_what_was_said_before_a_run_was_resumed_is_not_said_again(tmp_path):
  first = health.Told(tmp_path, lambda line: None, 0)
  first.once(10, "dead units", "units are dead")
  first.once(30, "unigrams", "no context")
  again = []
  told = health.Told(tmp_path, again.append, 20)
  told.once(21, "dead units", "units are dead")
  told.once(31, "unigrams", "no context")
  assert again == ["step 31  no context"]
  assert [line["step"] for line in health.read(tmp_path)] == [10, 31]


def test_a_disk_that_is_full_is_told_in_one_line(tmp_path):
  told = health.Told(tmp_path, lambda line: None, 0)
  (tmp_path / "health.jsonl").symlink_to("/dev/full")
  with pytest.raises(RunError, match=r"health\.jsonl cannot be written: No space .*make room"):
    told.say(10, "spike", "a spike")


def test_a_line_whose_text_names_its_step_is_written_once_by_a_run_that_was_killed(tmp_path):
  first = health.Told(tmp_path, lambda line: None, 0)
  first.keep(None, "skipped", "step 7 was not taken")
  first.keep(None, "skipped", "step 25 was not taken")
  again = health.Told(tmp_path, lambda line: None, 20)
  for step in (25, 25, 26):  # the second time after going back
    again.keep(None, "skipped", f"step {step} was not taken")
  assert [line["text"].split()[1] for line in health.read(tmp_path)] == ["7", "25", "25", "26"]


@dataclasses.dataclass(frozen=True)
class Counting:
  """Words that count up, which is soon learned; a row of the fifth epoch may hold a fault."""

  fault: int = 0

  def source(self, split):
    del split
    return self

  def __len__(self):
    return 256

  def take(self, indices, epoch):
    stream = (np.asarray(indices)[:, None] + np.arange(17)) % 20 + 1
    tokens = stream[:, :-1].astype(np.int32)
    if self.fault and epoch == 4:
      tokens[np.asarray(indices) == 7, 0] = self.fault
    ones = np.ones_like(tokens)
    return {"tokens": tokens, "targets": stream[:, 1:].astype(np.int32), "segments": ones}


def plain(model, batch):
  """Nats of the next token."""
  loss = small_experiment.small_model.next_token(model, batch)["loss"]
  return {"loss": loss, "nats": loss}


def nats(model, batch):
  """The same; token 30 makes them a thousand times as many, 31 no number."""
  loss = plain(model, batch)["loss"]
  of_token = jnp.zeros(32).at[30].set(1000.0).at[31].set(jnp.nan)
  total = loss.total * (1.0 + of_token[batch["tokens"]].sum())
  return {"loss": dataclasses.replace(loss, total=total), "nats": loss}


def kinds(tmp_path, capsys, **fields):
  """What was said in a run with these fields, by kind, and all that was printed."""
  experiment = dataclasses.replace(
    small_experiment.experiment(steps=260),
    data=Counting(),
    objective=nats,
    save_every=260,
    log_every=50,
  )
  train(dataclasses.replace(experiment, **fields), tmp_path)
  told = {}
  for line in health.read(tmp_path):
    told.setdefault(line["kind"], []).append(line["text"])
  return told, capsys.readouterr().err


def test_adapters_alone_are_trained_past_the_first_look_at_how_weights_move(tmp_path, capsys):
  groups = optim.Groups(frozen=(optim.all_but("_lora_"),))
  adapters = {
    "adapters": lora.LoRA("query/kernel$", 2, 4.0),
    "optimizer": optim.AdamW(1e-3, groups=groups),
  }
  assert kinds(tmp_path, capsys, **adapters, steps=102, save_every=102, batch_size=8)[0] == {}


@pytest.mark.slow
def test_a_run_with_faults_says_each_of_them_once(tmp_path, capsys):
  groups = optim.Groups(rates=(("^embed/", 1e-9),))
  optimizer = optim.AdamW(2.0, groups=groups)
  noise = {"data": planted_faults.Words(length=16), "objective": plain}
  told, printed = kinds(tmp_path, capsys, **noise, optimizer=optimizer)
  assert {"learning rate", "unigrams", "slow layers"} <= told.keys()
  assert "an update changes embed/table by" in told["slow layers"][0]
  for kind in ("learning rate", "unigrams", "slow layers"):
    assert printed.count(told[kind][0]) == len(told[kind]) == 1


@pytest.mark.slow
def test_of_a_run_that_is_well_nothing_is_said(tmp_path, capsys):
  assert kinds(tmp_path, capsys)[0] == {}


@pytest.mark.slow
def test_a_batch_that_is_no_number_is_said_once_in_words_and_in_the_report(tmp_path, capsys):
  told, printed = kinds(tmp_path, capsys, data=Counting(31), guard=Guard(tries=3))
  assert told.keys() == {"skipped"} and len(told["skipped"]) == 1
  assert "was not taken (loss nan, gradient norm nan)" in told["skipped"][0]
  assert printed.count("nan") == 2
  assert "was not taken" in noticed.sections(tmp_path)[0][1]


@pytest.mark.slow
def test_a_batch_with_a_thousandfold_loss_is_a_spike(tmp_path, capsys):
  told, printed = kinds(tmp_path, capsys, data=Counting(30))
  ((kind, (text,)),) = told.items()
  assert kind.startswith("spike ") and 64 < int(kind.split()[1]) <= 80
  assert printed.count(text) == 1
