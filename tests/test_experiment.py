"""An experiment is a value: varied, overridden, described; mistakes are told in a line."""

import dataclasses

import pytest

from research import Eval, Experiment, UserError, data, models, objectives, optim, preflight
from research.overrides import override


def tiny(**changes):
  tokens = data.Bytes()
  made = Experiment(
    name="tiny",
    data=data.Text(data.Files("nowhere.txt"), tokens, length=16),
    model=models.GPT(vocab_size=tokens.vocab_size, max_length=16, width=32, depth=2, heads=2),
    objective=objectives.NextToken(),
    optimizer=optim.AdamW(optim.Cosine(1e-3, warmup=2)),
    steps=10,
    batch_size=4,
    evals={"heldout": Eval(objectives.NextToken())},
  )
  return dataclasses.replace(made, **changes)


def test_an_experiment_opens_nothing():
  assert tiny().data.documents.pattern == "nowhere.txt"


@pytest.mark.parametrize(
  ("path", "value"),
  [
    ("steps", 20),
    ("model.width", 64),
    ("optimizer.learning_rate.peak", 3e-4),
    ("evals.heldout.batches", 3),
    ("sharding.mesh.tensor", 2),
  ],
)
def test_an_override_changes_one_line_of_the_description(path, value):
  before, after = tiny().describe(), override(tiny(), {path: value}).describe()
  assert {k for k in after if before.get(k) != after[k]} == {path}


@pytest.mark.parametrize("name", ["train", "baseline", "model", "timing", "samples"])
def test_an_evaluation_is_not_called_what_the_log_calls_its_own_lines(name):
  experiment = tiny(evals={name: Eval(objectives.NextToken())})
  with pytest.raises(UserError, match=f"evals.{name}: .* another name, such as '{name}_set'"):
    preflight.parts(experiment)


def test_an_override_leaves_the_original_alone():
  base = tiny()
  base.vary("wide", {"model.width": 64})
  assert base.model.width == 32 and base.name == "tiny"


@pytest.mark.parametrize(
  ("path", "value", "told"),
  [
    ("model.widht", 64, "Did you mean 'width'?"),
    ("modle.width", 64, "Did you mean 'model'?"),
    ("model.width", 32, "changes nothing"),
    ("model.width", "wide", "model.width is an int"),
    ("steps", 1.5, "steps is an int"),
    ("batch_size", 0, "batch_size=0 must be at least 1"),
    ("steps.more", 1, "has no fields"),
    ("model", 3, "set its fields"),
    ("optimizer.learning_rate.peak", "high", "float"),
    ("evals.heldout.batches", "all", "int or None"),
    ("sharding.mesh.tenser", 2, "Did you mean 'tensor'?"),
  ],
)
def test_a_mistaken_override_says_what_exists(path, value, told):
  with pytest.raises(UserError) as error:
    override(tiny(), {path: value})
  assert told in str(error.value)
  assert "\n" not in str(error.value)


def test_a_whole_number_is_accepted_where_a_fraction_is_meant():
  made = override(tiny(), {"optimizer.learning_rate.peak": 1})
  assert made.optimizer.learning_rate.peak == 1.0


def test_names_of_linen_modules_stay_hidden():
  assert not [k for k in tiny().describe() if k in ("model.name", "model.parent")]
  with pytest.raises(UserError):
    override(tiny(), {"model.name": "other"})
