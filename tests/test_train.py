"""One loop: the same numbers however it is cut into devices, microbatches, layers or stretches."""

import dataclasses
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research import (
  Eval,
  Experiment,
  Keep,
  Sharding,
  data,
  models,
  objectives,
  optim,
  preflight,
  train,
  update,
)
from research.errors import NumericsError, UserError
from research.overrides import override
from research.stacking import unstack


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  path = tmp_path_factory.mktemp("corpus") / "text.txt"
  words = np.random.RandomState(0).choice(["to", "be", "or", "not", "that", "is"], 4_000)
  path.write_text("\n".join(" ".join(words[i : i + 10]) for i in range(0, 4_000, 10)))
  return str(path)


@pytest.fixture
def tiny(corpus):
  """A GPT of two layers on documents shorter than a row, on one device."""
  tokens = data.Bytes()
  text = data.Files(corpus, separator="\n")
  return Experiment(
    name="tiny",
    data=data.Text(text, tokens, length=32, split=data.ByHash(heldout=0.1)),
    model=models.GPT(vocab_size=264, max_length=32, width=32, depth=2, heads=2, dropout=0.1),
    objective=objectives.NextToken(),
    optimizer=optim.AdamW(optim.Cosine(1e-2, warmup=2), weight_decay=0.1, clip=1.0),
    steps=6,
    batch_size=8,
    average=0.9,
    evals={"heldout": Eval(objectives.NextToken(), every=3)},
    save_every=2,
    log_every=1,
    sharding=Sharding(mesh={"data": 1, "fsdp": 1, "tensor": 1}),
  )


def run(experiment, workdir, devices=1):
  """Trains and returns the newest checkpoint's arrays, one entry a layer, and the log's lines."""
  mesh = experiment.sharding.make_mesh(jax.devices()[:devices])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Sharding, "make_mesh", lambda self: mesh)
    finished = train.train(experiment, workdir)
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  return finished, final_arrays(workdir), lines


def final_arrays(workdir):
  import orbax.checkpoint as ocp

  step = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
  folder = workdir / "checkpoints" / str(step)
  return unstack(ocp.PyTreeCheckpointer().restore(folder))


def close(a, b, **tolerance):
  assert sorted(a) == sorted(b)
  for name in a:
    np.testing.assert_allclose(a[name], b[name], err_msg=name, **tolerance)


def losses(lines):
  return np.array([line["loss"] for line in lines if line["split"] == "train"])


def test_training_learns_and_leaves_its_files(tiny, tmp_path):
  finished, _, lines = run(dataclasses.replace(tiny, steps=30), tmp_path)
  assert finished.complete
  assert losses(lines)[-1] < losses(lines)[0] - 1
  heldout = [line for line in lines if line["split"] == "heldout"]
  assert heldout[-1]["step"] == 30
  assert heldout[-1]["standard_error"]["nats"] > 0
  assert heldout[-1]["perplexity"] == pytest.approx(np.exp(heldout[-1]["nats"]))


def test_resuming_changes_nothing(tiny, tmp_path, monkeypatch):
  """Stopped and resumed, a run ends with the very bits of an unbroken one."""
  _, whole, lines = run(tiny, tmp_path / "whole")
  real = train.pipeline.batches
  for stop in (2, 5):

    def interrupted(*args, stop=stop, start=0, **kwargs):
      for i, batch in enumerate(real(*args, start=start, **kwargs), start=start):
        if i == stop - 1:
          signal.raise_signal(signal.SIGTERM)  # arrives before step `stop`, which still runs
        yield batch

    workdir = tmp_path / f"stopped_at_{stop}"
    monkeypatch.setattr(train.pipeline, "batches", interrupted)
    finished, _, _ = run(tiny, workdir)
    assert finished.step == stop and not finished.complete
    monkeypatch.setattr(train.pipeline, "batches", real)
    finished, resumed, again = run(tiny, workdir)
    assert finished.complete
    close(whole, resumed, rtol=0, atol=0)
    assert [line["step"] for line in again if line["split"] == "train"] == list(range(1, 7))
    np.testing.assert_array_equal(losses(lines), losses(again))


def test_eight_devices_match_one(tiny, tmp_path):
  # Adam divides by the root of tiny second moments, which would turn rounding into differences.
  exact = override(
    tiny, {"optimizer": optim.SGD(optim.Constant(0.1), clip=1.0), "model.dropout": 0.0}
  )
  _, one, lines = run(exact, tmp_path / "one")
  mesh = {"data": 2, "fsdp": 2, "tensor": 2}  # each preset by itself: test_presets.py
  spread = dataclasses.replace(exact, sharding=Sharding(mesh=mesh))
  _, eight, lines_8 = run(spread, tmp_path / "eight", devices=8)
  np.testing.assert_allclose(losses(lines), losses(lines_8), rtol=1e-5)
  close(one, eight, rtol=1e-4, atol=1e-6)


def test_no_device_holds_a_whole_matrix_under_fsdp(tiny):
  mesh = {"data": 1, "fsdp": 8, "tensor": 1}
  spread = dataclasses.replace(tiny, sharding=Sharding(mesh=mesh))
  batch = update.abstract_batch(spread)
  program = update.build(spread, spread.sharding.make_mesh(), batch)
  state = program.init()
  for name, leaf in unstack(state).items():
    if name.endswith(("kernel", "table")):
      assert leaf.addressable_shards[0].data.size * 8 == leaf.size, name


def test_microbatches_equal_the_whole_batch(tiny, tmp_path):
  exact = override(
    tiny, {"optimizer": optim.SGD(optim.Constant(0.1), clip=1.0), "model.dropout": 0.0}
  )
  _, whole, lines = run(exact, tmp_path / "whole")
  _, pieces, lines_n = run(dataclasses.replace(exact, microbatches=4), tmp_path / "pieces")
  np.testing.assert_allclose(losses(lines), losses(lines_n), rtol=1e-5)
  close(whole, pieces, rtol=1e-4, atol=1e-6)


@pytest.mark.slow  # that one goes on as the other, below
def test_scanned_layers_train_as_looped_ones(tiny, tmp_path):
  _, loop, lines = run(override(tiny, {"model.layers": "loop"}), tmp_path / "loop")
  _, scan, lines_scan = run(override(tiny, {"model.layers": "scan"}), tmp_path / "scan")
  np.testing.assert_allclose(losses(lines), losses(lines_scan), rtol=1e-5)
  assert sorted(loop) == sorted(scan)


@pytest.mark.slow
def test_a_run_started_looped_goes_on_scanned(tiny, tmp_path):
  loop = override(tiny, {"model.layers": "loop", "steps": 4})
  run(loop, tmp_path)
  finished, _, _ = run(override(tiny, {"model.layers": "scan"}), tmp_path)
  assert finished.complete


def test_evaluation_does_not_depend_on_the_batch_size(tiny, tmp_path):
  evals = {f"by_{n}": Eval(objectives.NextToken(), every=6, batch_size=n) for n in (1, 3, 8)}
  finished, _, _ = run(dataclasses.replace(tiny, evals=evals), tmp_path)
  values = [finished.evaluations[name]["nats"] for name in evals]
  np.testing.assert_allclose(values, values[0], rtol=1e-6)


def test_a_finished_run_is_not_run_again(tiny, tmp_path):
  _, before, _ = run(tiny, tmp_path)
  finished, after, _ = run(tiny, tmp_path)
  assert finished.complete and finished.evaluations["heldout"]["nats"] > 0
  close(before, after, rtol=0, atol=0)


def test_microbatches_that_do_not_divide_are_told(tiny, tmp_path):
  with pytest.raises(UserError, match="microbatches=3 does not divide batch_size=8"):
    run(dataclasses.replace(tiny, microbatches=3), tmp_path)


def test_the_best_by_what_nothing_measures_is_refused(tiny):
  small = dataclasses.replace(override(tiny, {"model.depth": 1}), sharding=Sharding())
  preflight.together(dataclasses.replace(small, keep=Keep(lowest="heldout.loss")))
  with pytest.raises(UserError, match=r"keep.highest='heldot.loss': .* Did you mean 'heldout'\?"):
    preflight.together(dataclasses.replace(small, keep=Keep(highest="heldot.loss")))


def test_baselines_stand_in_the_log(tiny, tmp_path):
  baselines = {"bigram": models.NGram(order=2)}
  _, _, lines = run(dataclasses.replace(tiny, baselines=baselines), tmp_path)
  baseline = next(line for line in lines if line["split"] == "baseline")
  assert baseline["name"] == "bigram" and 0 < baseline["bits_per_byte"] < 8


@jax.custom_vjp
def with_slope(total, slope):
  """`total`, whose gradient is multiplied by `slope`."""
  return total


with_slope.defvjp(lambda total, slope: (total, slope), lambda slope, g: (g * slope, None))


@dataclasses.dataclass(frozen=True)
class Poisoned:
  """The next token; a batch says what is added to the loss, and what its gradient is times."""

  def __call__(self, model, batch):
    measured = objectives.NextToken()(model, batch)
    added, slope = batch["poison"][0]
    total = with_slope(measured["loss"].total + added, slope)
    return {**measured, "loss": dataclasses.replace(measured["loss"], total=total)}


@pytest.mark.parametrize(
  "poison",
  [(np.nan, 1), pytest.param((np.inf, 1), marks=pytest.mark.slow), (0, np.inf)],
  ids=["nan", "inf", "gradient"],
)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_a_step_that_is_not_finite_changes_nothing(tiny, poison, dtype):
  experiment = override(tiny, {"model.dtype": dtype} if dtype != "float32" else {})
  experiment = dataclasses.replace(experiment, objective=Poisoned(), evals={})
  source = experiment.data.source("train")
  rows = {**source.take(np.arange(8), 0), "poison": np.full((8, 2), (0, 1), np.float32)}
  bad = {**rows, "poison": np.full((8, 2), poison, np.float32)}
  shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in rows.items()}
  mesh = experiment.sharding.make_mesh(jax.devices()[:1])
  program = update.build(experiment, mesh, shapes)
  state = program.init()
  for step, batch in enumerate([bad, rows, bad, rows]):  # in the warm-up and after it
    before = jax.device_get(state)
    state, measured = program.step(state, program.place(batch))
    after = jax.device_get(state)
    assert after.step == step + 1
    assert measured["skipped"].total == (batch is bad)
    parts = [(x.params, x.opt_state, x.average) for x in (before, after)]
    same = jax.tree.map(np.array_equal, *parts)
    assert jax.tree.all(same) == (batch is bad)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(after.params))


@pytest.mark.slow
def test_after_a_skipped_step_the_logged_rate_is_the_one_used(tiny):
  sgd = optim.SGD(optim.Cosine(0.1, warmup=3))
  small = dataclasses.replace(override(tiny, {"model.depth": 1}), optimizer=sgd, average=None)
  experiment = dataclasses.replace(small, objective=Poisoned(), evals={})
  rows = experiment.data.source("train").take(np.arange(8), 0)
  good, bad = ({**rows, "poison": np.full((8, 2), x, np.float32)} for x in ((0, 1), (np.nan, 1)))
  shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in good.items()}
  program = update.build(experiment, experiment.sharding.make_mesh(jax.devices()[:1]), shapes)
  state = program.init()
  for batch in (good, bad, good):
    before = jax.device_get(state.params)
    state, measured = program.step(state, program.place(batch))
  moved = optax.tree.norm(jax.tree.map(np.subtract, jax.device_get(state.params), before))
  used = moved / measured["gradient_norm"].total
  np.testing.assert_allclose(measured["learning_rate"].total, used, rtol=1e-3)


@dataclasses.dataclass(frozen=True)
class Nowhere:
  """A loss that is no number."""

  def __call__(self, model, batch):
    measured = objectives.NextToken()(model, batch)
    return {**measured, "loss": dataclasses.replace(measured["loss"], total=jnp.nan)}


def test_a_run_without_finite_numbers_ends(tiny, tmp_path):
  lost = dataclasses.replace(tiny, objective=Nowhere(), steps=100, save_every=100, evals={})
  with pytest.raises(NumericsError, match="10 steps in a row were not taken, the last of them 10"):
    run(lost, tmp_path)
  assert NumericsError.exit_code == 4
