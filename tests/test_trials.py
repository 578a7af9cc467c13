"""Several runs in one program: each as it would have been by itself, and no other."""

import dataclasses
import json
import re
import signal

import jax
import numpy as np
import pytest

from research import Eval, Experiment, Sharding, Trials, cli, data, entry, load, optim, train
from research.errors import NumericsError, UserError
from research.overrides import override
from research.stacking import unstack
from tests.small_model import Small, next_token

NAMES = ("low", "high")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  path = tmp_path_factory.mktemp("corpus") / "text.txt"
  words = np.random.RandomState(0).choice(["to", "be", "or", "not"], 2_000)
  path.write_text("\n".join(" ".join(words[i : i + 10]) for i in range(0, 2_000, 10)))
  return str(path)


@pytest.fixture
def base(corpus):
  return Experiment(
    name="base",
    data=data.Text(data.Files(corpus, separator="\n"), data.Bytes(), length=16),
    model=Small(depth=1),
    objective=next_token,
    optimizer=optim.AdamW(optim.Cosine(1e-2, warmup=2), weight_decay=0.1, clip=1.0),
    steps=6,
    batch_size=8,
    average=0.9,
    evals={"heldout": Eval(next_token, every=3, batches=2)},
    save_every=2,
    log_every=1,
    sharding=Sharding({"data": 1}),
  )


def varied(base):
  """Two runs of other rates, decays, seeds."""
  low = {"optimizer.learning_rate.peak": 1e-3, "optimizer.weight_decay": 0.0}
  return [
    base.vary("low", low),
    base.vary("high", {"optimizer.learning_rate.peak": 3e-2, "seed": 1}),
  ]


def on(devices, function, *arguments):
  """Calls a function where a mesh finds so many devices."""
  make = Sharding.make_mesh
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Sharding, "make_mesh", lambda self: make(self, jax.devices()[:devices]))
    return function(*arguments)


def together(experiments, folder, devices=1):
  folders = {folder / item.name.split("/")[-1]: item for item in experiments}
  return on(devices, train.train_together, folders)


def apart(experiments, folder, devices=1):
  for item in experiments:
    on(devices, train.train, item, folder / item.name.split("/")[-1])


def arrays(workdir, step=6):
  import orbax.checkpoint as ocp

  return unstack(ocp.PyTreeCheckpointer().restore(workdir / "checkpoints" / str(step)))


def lines(workdir, split):
  text = (workdir / "metrics.jsonl").read_text().splitlines()
  return [line for line in map(json.loads, text) if line["split"] == split]


def check_equal(one, other, **tolerance):
  """Losses of every step, evaluations and the last state of two runs."""
  for split in ("train", "heldout"):
    a, b = (lines(folder, split) for folder in (one, other))
    assert [x["step"] for x in a] == [x["step"] for x in b]
    np.testing.assert_allclose([x["loss"] for x in a], [x["loss"] for x in b], **tolerance)
  a, b = arrays(one), arrays(other)
  assert sorted(a) == sorted(b)
  for name in a:
    np.testing.assert_allclose(a[name], b[name], err_msg=name, **tolerance)


def test_trials_are_what_they_are_by_themselves(base, tmp_path):
  experiments = varied(base)
  finished = together(experiments, tmp_path / "together")
  assert all(one.complete for one in finished)
  apart(experiments, tmp_path / "apart")
  for name in NAMES:
    check_equal(tmp_path / "together" / name, tmp_path / "apart" / name, rtol=1e-5, atol=1e-5)
  low, high = (lines(tmp_path / "together" / name, "train")[-1]["loss"] for name in NAMES)
  assert low > high + 1


@pytest.mark.slow
def test_trials_and_rows_share_eight_devices(base, tmp_path):
  """Over trial=2 x data=2 x fsdp=2 two trials are those of one device."""
  mesh = Sharding({"trial": 2, "data": 2, "fsdp": 2})
  # Adam divides by the root of tiny second moments, which would turn rounding into differences.
  plain = override(base, {"optimizer": optim.SGD(0.05, momentum=0.9)})
  exact = [plain.vary("low", {"seed": 7}), plain.vary("high", {"optimizer.learning_rate": 0.1})]
  together([dataclasses.replace(item, sharding=mesh) for item in exact], tmp_path / "spread", 8)
  apart(exact, tmp_path / "apart")
  for name in NAMES:
    check_equal(tmp_path / "spread" / name, tmp_path / "apart" / name, rtol=1e-5, atol=1e-5)


def test_each_device_holds_its_own_trials(base):
  from research import side_by_side, update

  mesh = Sharding({"trial": 4, "data": 2})
  experiments = [dataclasses.replace(base, sharding=mesh, seed=seed) for seed in range(4)]
  batch = update.abstract_batch(experiments[0])
  program = update.build(experiments[0], mesh.make_mesh(), batch)
  states = side_by_side.states(program, experiments)
  for leaf in jax.tree.leaves(states.empty()):
    assert leaf.addressable_shards[0].data.shape[0] == 1
  # Between trials go single numbers, what each measured; no state, and no gradient.
  program = states.compiled(batch).as_text()
  sent = re.findall(r"= (.*?) (?:all-gather|all-to-all|collective-permute)\(", program)
  assert sent and all(re.fullmatch(r"\(?(f32\[\d\]\{0\}(, )?)+\)?", shapes) for shapes in sent)


@pytest.mark.slow
def test_one_of_them_goes_on_by_itself_and_all_together(base, tmp_path, monkeypatch):
  experiments = varied(base)
  whole, broken = tmp_path / "whole", tmp_path / "broken"
  together(experiments, whole)
  real, asked = train.pipeline.batches, []

  def interrupted(*args, start=0, **kwargs):
    for i, batch in enumerate(real(*args, start=start, **kwargs), start=start):
      if i == 2 and not asked:
        asked.append(i)
        signal.raise_signal(signal.SIGTERM)  # arrives before step 3, which is still taken
      yield batch

  monkeypatch.setattr(train.pipeline, "batches", interrupted)
  stopped = together(experiments, broken)
  assert [(one.step, one.complete) for one in stopped] == [(3, False)] * 2
  on(1, train.train, experiments[1], broken / "high")  # alone to its end
  finished = together(experiments, broken)  # the others from where they are
  assert [one.step for one in finished] == [6, 6] and all(one.complete for one in finished)
  for name in NAMES:
    check_equal(whole / name, broken / name, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_one_that_loses_its_numbers_takes_no_other_along(corpus, tmp_path, capsys):
  """Each has its folder, as if it had been run by itself; only the exit code is of both."""
  path, runs = tmp_path / "rates.py", tmp_path / "runs"
  path.write_text(
    "from research import Eval, Experiment, Guard, Sharding, Trials, data, optim\n"
    "from tests.small_model import Small, next_token\n\n"
    "def experiment(text: str):\n"
    "  base = Experiment(\n"
    "    name='base', model=Small(depth=1), objective=next_token, optimizer=optim.SGD(0.1),\n"
    "    data=data.Text(data.Files(text, separator='\\n'), data.Bytes(), length=16),\n"
    "    steps=6, batch_size=8, guard=Guard(tries=2), evals={'heldout': Eval(next_token)},\n"
    "    sharding=Sharding({'trial': 2, 'data': -1}))\n"
    "  lost = base.vary('lost', {'optimizer.learning_rate': 1e30})\n"
    "  return Trials([base.vary('kept', {}), lost])\n"
  )
  code = cli.main(["run", str(path), f"text={corpus}", "--workdir", str(runs)])
  out, err = capsys.readouterr()
  assert code == NumericsError.exit_code
  assert "error: base/lost: 2 steps in a row were not taken" in err
  assert "base/kept heldout at step 6: loss" in out
  assert entry.read(runs / "base" / "kept").state == "done"
  lost = entry.read(runs / "base" / "lost")
  assert lost.state == "failed" and "2 steps in a row" in lost.error
  assert (runs / "base" / "kept" / "report.html").exists()


@pytest.mark.parametrize(
  "optimizer, numbers",
  [
    (optim.SGD(optim.Constant(0.1), momentum=0.9), {"momentum": 0.5, "learning_rate.value": 0.2}),
    (optim.Lion(optim.Linear(1e-3, warmup=2)), {"b1": 0.8, "b2": 0.95, "weight_decay": 0.3}),
    (
      optim.AdamW(optim.WarmupStableDecay(1e-2, warmup=1, decay=0.5), clip=1.0),
      {"learning_rate.decay": 0.2, "clip": 0.1, "b1": 0.8, "b2": 0.9, "eps": 1e-6},
    ),
    (
      optim.Adafactor(optim.InverseSquareRoot(warmup=2, peak=1e-2)),
      {"learning_rate.peak": 3e-2, "exponent": 0.7, "threshold": 0.5, "min_scale": 1e-2},
    ),
    (
      optim.Muon(1e-2, matrices=r"blocks/.*kernel$"),
      {"learning_rate": 3e-2, "momentum": 0.8, "adam_rate": 0.3, "weight_decay": 0.1},
    ),
  ],
  ids=lambda value: type(value).__name__,
)
def test_every_number_of_an_optimizer_may_be_a_trials_own(optimizer, numbers):
  """Its updates are those of the optimizer that has the number written down."""
  from research import trials

  random = np.random.RandomState(0)
  params = {"blocks": {"0": {"kernel": random.randn(8, 8).astype(np.float32)}}}
  params["embed"] = {"table": random.randn(4, 8).astype(np.float32)}
  base = Experiment(name="e", data=None, model=None, optimizer=optimizer)
  other = override(base, {f"optimizer.{path}": value for path, value in numbers.items()})
  given = trials.differing((base, other))
  assert len(given) == len(numbers)

  def updated(experiment):
    built = experiment.optimizer.build(5)
    state, p = built.init(params), params
    for _ in range(3):
      updates, state = built.update(jax.tree.map(lambda x: x * 0.1, p), state, p)
      p = jax.tree.map(lambda a, b: a + b, p, updates)
    return p

  both = jax.jit(jax.vmap(lambda n: updated(trials.with_numbers(base, n))))(given)
  each = jax.jit(lambda: [updated(base), updated(other)])()
  for i, alone in enumerate(each):
    for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
      np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  "overrides, said",
  [
    ({"model.width": 32}, "model.width=16, base/other has 32"),
    ({"optimizer.learning_rate.warmup": 3}, "optimizer.learning_rate.warmup=2, base/other has 3"),
    ({"optimizer.clip": None}, "optimizer.clip=1.0, base/other has None"),
    ({"batch_size": 4}, "batch_size=8, base/other has 4"),
  ],
)
def test_what_else_differs_is_named(base, overrides, said):
  with pytest.raises(UserError, match=said):
    Trials([base, base.vary("other", overrides)])


def test_optimizers_that_keep_other_arrays_are_told_apart(base, tmp_path):
  plain = override(base, {"optimizer": optim.SGD(0.1)})
  with pytest.raises(UserError, match=r"keep different arrays, .* optimizer\.momentum"):
    together([plain, plain.vary("heavy", {"optimizer.momentum": 0.9})], tmp_path)


def test_a_run_by_itself_has_all_devices_of_the_mesh():
  spread = Sharding.parse("trial=2,data=4")
  assert spread.on(8).parts("B") == 8 and spread.on(8).without("trial").parts("B") == 4
  assert "trial" not in Sharding().mesh  # where nobody asks for it, there is none


def test_trials_divide_over_their_axis(base, tmp_path):
  three = [*varied(base), base]
  spread = [dataclasses.replace(item, sharding=Sharding({"trial": 2})) for item in three]
  with pytest.raises(UserError, match=r"3 trials do not divide by sharding\.mesh\.trial=2"):
    together(spread, tmp_path, devices=2)


def test_a_file_names_the_trials_of_a_program(tmp_path):
  path = tmp_path / "rates.py"
  path.write_text(
    "from research import Trials\n"
    "from research.arms import arms\n"
    "from tests.tiny_experiment import experiment as tiny\n\n"
    "def experiment():\n"
    "  yield tiny('text.txt')\n"
    "  rates = {f'r{i}': {'optimizer.learning_rate.peak': 10.0**-i} for i in (1, 3)}\n"
    "  yield Trials(arms(tiny('text.txt'), rates, seeds=2))\n"
  )
  programs = load.recipe(str(path)).programs()
  assert [len(program) for program in programs] == [1, 4]
  assert [item.name for item in programs[1]][:2] == ["tiny/r1/seed_0", "tiny/r3/seed_0"]
  assert len(load.recipe(str(path)).experiments()) == 5
