"""A memory target cuts a batch into as few microbatches as fit, by what the compiler says."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from research import Experiment, Sharding, models, objectives, optim, update
from research.errors import UserError
from research.microbatches import GIB, bytes_needed, fewest

L = 128


def experiment(**fields):
  return Experiment(
    name="fits",
    data=None,
    model=models.GPT(vocab_size=64, max_length=L, width=32, depth=2, heads=2),
    objective=objectives.NextToken(),
    optimizer=optim.AdamW(optim.Constant(1e-3)),
    batch_size=32,
    sharding=Sharding({"data": 2}),
    **fields,
  )


def compiled(cut):
  names = ("tokens", "targets", "segments", "positions")
  batch = {name: jax.ShapeDtypeStruct((32, L), jnp.int32) for name in names}
  mesh = cut.sharding.make_mesh(jax.devices()[:2])
  return update.compiled_step(update.build(cut, mesh, batch), batch)


@pytest.mark.slow
def test_a_batch_is_cut_until_the_compiled_step_fits():
  whole, cut = (bytes_needed(compiled, experiment(microbatches=n)) for n in (1, 4))
  assert cut < whole / 2
  target = 1.2 * cut / GIB
  made = fewest(experiment(memory_target=target), compiled, rows=2)
  assert 1 < made.microbatches <= 4
  assert bytes_needed(compiled, made) <= target * GIB
  before = dataclasses.replace(made, microbatches=made.microbatches // 2)
  assert bytes_needed(compiled, before) > target * GIB


def test_without_a_target_nothing_is_compiled():
  same = experiment(microbatches=2)
  assert fewest(same, lambda cut: pytest.fail("compiled"), rows=2) is same


def test_each_device_keeps_whole_rows_and_what_cannot_fit_is_told():
  tried = []

  def huge(cut):
    tried.append(cut.microbatches)
    return SimpleNamespace(
      memory_analysis=lambda: SimpleNamespace(
        argument_size_in_bytes=3 * GIB,
        output_size_in_bytes=GIB,
        alias_size_in_bytes=GIB,
        temp_size_in_bytes=GIB // cut.microbatches,
      )
    )

  with pytest.raises(UserError, match=r"memory_target=1 GiB: .* at least 3.12 GiB .* 8 micro"):
    fewest(experiment(memory_target=1.0), huge, rows=4)
  assert tried == [1, 2, 4, 8]


def test_a_program_that_the_compiler_refuses_is_cut_further():
  def full(cut):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

  assert bytes_needed(full, experiment()) == float("inf")
