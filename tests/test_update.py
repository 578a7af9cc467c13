"""One update: what its program is given when it runs, and what it is compiled with."""

import dataclasses

import jax
import numpy as np
import pytest

from research import Experiment, Sharding, optim, update
from research.optim import given
from research.overrides import override
from tests.small_model import Small, next_token

B, L = 4, 16
ROWS = {
  "tokens": np.arange(B * L, dtype=np.int32).reshape(B, L) % 50,
  "targets": np.arange(1, B * L + 1, dtype=np.int32).reshape(B, L) % 50,
  "segments": np.ones((B, L), np.int32),
  "positions": np.tile(np.arange(L, dtype=np.int32), (B, 1)),
}
BATCH = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in ROWS.items()}
ADAM = optim.AdamW(optim.Cosine(1e-2, warmup=2), weight_decay=0.1, clip=1.0)


def experiment(optimizer=ADAM, **overrides):
  made = Experiment(
    name="one",
    data=None,
    model=Small(depth=1),
    objective=next_token,
    optimizer=optimizer,
    steps=6,
    batch_size=B,
    sharding=Sharding({"data": 1}),
  )
  return override(made, overrides)


def program(made):
  return update.build(made, made.sharding.make_mesh(jax.devices()[:1]), BATCH)


def text(made):
  built = program(made)
  return built.step.lower(built.abstract, BATCH).as_text()


def test_runs_of_other_rates_decays_and_seeds_share_one_program():
  one = text(experiment())
  others = {"optimizer.learning_rate.peak": 3e-2, "optimizer.weight_decay": 0.3, "seed": 7}
  assert text(experiment(**others)) == one
  assert text(experiment(**{"optimizer.b1": 0.8})) != one
  assert text(experiment(**{"optimizer.weight_decay": 0.0})) != one


@pytest.mark.parametrize(
  "optimizer",
  [
    ADAM,
    optim.SGD(0.1, momentum=0.9),
    optim.Lion(optim.Linear(1e-3, warmup=1, final=1e-4), weight_decay=0.2),
    optim.Adafactor(optim.InverseSquareRoot(warmup=2, peak=1e-2)),
    optim.Muon(
      optim.WarmupStableDecay(1e-2, warmup=1, decay=0.5),
      weight_decay=0.1,
      matrices="(query|key)/kernel",
    ),
  ],
  ids=lambda optimizer: type(optimizer).__name__,
)
def test_a_number_that_is_given_does_what_one_that_is_compiled_does(optimizer):
  made = experiment(optimizer, seed=3)
  built = program(made)
  transformation = optimizer.build(made.steps)
  words = update.seed_words(3)
  compiled = jax.jit(
    lambda state, rows: update.train_step(made, transformation, state, rows, words)
  )
  first = jax.tree.map(np.asarray, built.init().params)
  ours, theirs = built.init(), built.init()
  for _ in range(3):
    ours, measured = built.step(ours, built.place(ROWS))
    theirs, wanted = compiled(theirs, ROWS)
  rate = float(wanted["learning_rate"].total)
  assert float(measured["learning_rate"].total) == pytest.approx(rate, rel=1e-6)
  # Of all that has moved: Adam makes differences of what is next to nothing.
  for one, a, b in zip(*map(jax.tree.leaves, (first, ours.params, theirs.params)), strict=True):
    assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b - one) + 1e-8


def test_another_seed_needs_no_other_program_and_is_another_run():
  built = program(experiment())
  other = built.seeded(1)
  assert other.step.jitted is built.step.jitted
  np.testing.assert_array_equal(other.step.given[0], update.seed_words(1))


@dataclasses.dataclass(frozen=True)
class Own(optim.AdamW):
  """One that must know its rate beforehand."""

  def build(self, steps):
    return dataclasses.replace(ADAM, learning_rate=float(self.learning_rate)).build(steps)


@dataclasses.dataclass(frozen=True)
class Halved:
  """A schedule of another package."""

  peak: float

  def build(self, steps):
    return lambda i: float(self.peak) / 2


def test_what_is_not_ours_and_what_is_no_fraction_is_compiled():
  assert given(Own(1e-2)) == {}
  assert given(optim.SGD(Halved(1e-2))) == {}
  assert given(optim.SGD(1)) == {}
  assert given(optim.AdamW(optim.InverseSquareRoot(4, width=8))) == {}
  assert given(ADAM) == {
    "learning_rate.peak": np.float32(1e-2),
    "weight_decay": np.float32(0.1),
  }
  assert program(experiment(Own(1e-2))).step.numbers == {}
