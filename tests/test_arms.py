"""Arms of an ablation are pairs: of one seed they share their batches and their first values."""

import itertools

import jax
import numpy as np
import pytest
from small_model import Small, next_token

from research import Experiment, UserError, data, optim, update
from research.arms import arm_of, arms
from research.data import pipeline

VARIANTS = {"flat": {"model.depth": 1}, "deep": {}, "slow": {"optimizer.learning_rate": 1e-4}}


def base(text="nowhere.txt"):
  return Experiment(
    name="toy",
    data=data.Text(data.Files(str(text), separator="\n"), data.Bytes(), length=16),
    model=Small(),
    objective=next_token,
    optimizer=optim.AdamW(1e-3),
    steps=4,
    batch_size=8,
    seed=5,
  )


def test_every_arm_has_every_seed_and_the_first_seed_comes_first():
  made = list(arms(base(), VARIANTS, seeds=2))
  assert [e.name for e in made] == [
    f"toy/{arm}/seed_{seed}" for seed in range(2) for arm in ("flat", "deep", "slow")
  ]
  assert [e.seed for e in made] == [0, 0, 0, 1, 1, 1]
  assert [e.model.depth for e in made[:3]] == [1, 2, 2]


def test_arms_differ_in_their_overrides_and_in_nothing_else():
  flat, deep, _ = arms(base(), VARIANTS, seeds=1)
  flat, deep = flat.describe(), deep.describe()
  assert {path for path in flat if flat[path] != deep[path]} == {"name", "model.depth"}


def test_arms_of_a_seed_see_the_same_batches_in_the_same_order(tmp_path):
  text = tmp_path / "text.txt"
  text.write_text("\n".join(f"line {i} of many" for i in range(400)))
  first, other, _, reseeded, *_ = arms(base(text), VARIANTS, seeds=2)

  def seen(experiment):
    order = {"seed": experiment.seed, "threads": 0}
    source = experiment.data.source("train")
    read = pipeline.batches(source, experiment.batch_size, **order)
    return np.concatenate([batch["tokens"] for batch in itertools.islice(read, 5)])

  np.testing.assert_array_equal(seen(first), seen(other))
  assert (seen(first) != seen(reseeded)).any()


def test_what_two_arms_have_in_common_begins_with_the_same_values():
  batch = {
    name: jax.ShapeDtypeStruct((8, 16), np.int32) for name in ("tokens", "targets", "segments")
  }

  def initial(experiment):
    mesh = experiment.sharding.make_mesh(jax.devices()[:1])
    params = update.build(experiment, mesh, batch).init().params
    return dict(jax.tree_util.tree_leaves_with_path(params))

  made = list(arms(base(), VARIANTS, seeds=2))
  flat, deep, other = initial(made[0]), initial(made[1]), initial(made[3])
  assert set(flat) < set(deep)
  for path, value in flat.items():
    np.testing.assert_array_equal(value, deep[path])
  assert any((value != other[path]).any() for path, value in flat.items())


def test_the_arm_and_the_seed_stand_in_the_name():
  names = [e.name for e in arms(base(), VARIANTS, seeds=2)]
  firsts = [("flat", 0), ("deep", 0), ("slow", 0), ("flat", 1)]
  assert [arm_of(name) for name in names][:4] == firsts
  assert arm_of("toy/smoke/deep/seed_12") == ("deep", 12)


@pytest.mark.parametrize(
  "name", ["toy", "seed_1", "toy/deep", "toy/deep/seed_", "toy/deep/seed_01"]
)
def test_another_name_is_told_what_arms_are_called(name):
  with pytest.raises(UserError, match="NAME/ARM/seed_N"):
    arm_of(name)


@pytest.mark.parametrize(
  ("variants", "seeds", "told"),
  [
    ({"a": {}, "b": {}}, 1, "'a' and 'b' are the same experiment"),
    ({"a/b": {}}, 1, "one word"),
    ({"a": {"seed": 3}}, 1, "sets the seed"),
    ({"a": {"model.dpeth": 3}}, 1, "Did you mean 'depth'"),
    ({"a": {}}, 0, "seeds=0"),
    ({}, 1, "no arms"),
  ],
)
def test_what_makes_no_ablation_is_refused(variants, seeds, told):
  with pytest.raises(UserError, match=told):
    list(arms(base(), variants, seeds=seeds))
