"""`research verify` finds planted faults, says where to look, and passes nothing silently."""

import dataclasses
import functools
import io
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from research import Eval, Experiment, data, models, objectives, optim, verify
from research.cli import main
from research.errors import UserError
from research.verify import resume
from research.verify.batches import evaluation
from research.verify.checks import CHECKS
from research.verify.rows import DoesNotApply, furthest
from research.verify.small import small
from research.verify.subject import uneven

ROOT = Path(__file__).parent.parent
PLANTED = str(ROOT / "tests" / "planted_faults.py")
TINY = str(ROOT / "tests" / "tiny_experiment.py")
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.py"))

FAULTS = {  # the one check that each breaks, and what the message has to say
  "off_by_one_mask": ("causality", "the prediction at .* depends on the token at"),
  "unshifted_targets": ("causality", "the data do not shift them"),
  "segments_ignored": ("segments", "depends on the token at .*segments"),
  "wide_window": ("windows", "the band of the mask"),
  "positions_of_row": ("packing", "read differently after others"),
  "order_of_rows": ("permutation", "shuffled and in order: the gradient of"),
  "summed_loss": ("microbatches", "the losses are .*the weight the sum of weights"),
  "mean_of_means": ("microbatches", "in two pieces and whole: the gradient of .* differs most"),
  "counts_padding": ("evaluation", "padding rows"),
  "scan_differs": ("layers", "scanned and looped"),
  "other_randomness": ("remat", "remat 'full' and 'none'"),
  "missing_psum": ("devices", "missing psum"),
  "no_letters": ("placement", "params/stack/[01]/up lies whole on every device"),
  "stale_index": ("decoding", "logits differ from place 1 on"),
  "offset_forgotten": ("decoding", "logits differ from place 1 on"),
  "random_data": ("data", "'tokens' of batch . differs"),
  "random_loss": ("determinism", "twice the same: .* the losses are"),
  "random_when_traced": ("determinism", "traced twice: .* the losses are"),
  "narrow_sum": ("dtype", "rows together .* one by one"),
  "dropout_off": ("dropout", "the loss of a step is the same as with 0"),
  "unscaled_dropout": ("dropout", "not multiplied by 1 / "),
  "dropout_in_evaluation": ("dropout", "without a key the loss changes"),
  "data_by_process": ("resume", "the data has changed since"),
}
exhaustive = pytest.mark.skipif(
  "RESEARCH_EXHAUSTIVE" not in os.environ,
  reason="half an hour: set RESEARCH_EXHAUSTIVE=1 after changes to what is verified or verifies",
)
SLOW = {"devices", "placement", "resume", "decoding", "remat"}  # checks
LIKE = {
  "random_when_traced",
  "summed_loss",
  "narrow_sum",
  "unscaled_dropout",
  "dropout_in_evaluation",
}  # faults


def checked(*words, only=(), target=PLANTED, meshes=()):
  """The rows by check, and the printed table in one line."""
  stream = io.StringIO()
  rows = verify.verify(target, words, only=only, meshes=meshes, stream=stream)
  return rows, " ".join(stream.getvalue().split())


@pytest.mark.parametrize(
  ("fault", "check", "told"),
  [
    pytest.param(
      fault, *found, id=fault, marks=[pytest.mark.slow] * (found[0] in SLOW or fault in LIKE)
    )
    for fault, found in FAULTS.items()
  ],
)
def test_a_planted_fault_breaks_its_check_and_is_named(fault, check, told):
  meshes = ["tp"] if check == "devices" else []
  rows, text = checked(f"fault={fault}", only=[check], meshes=meshes)
  assert verify.broken(rows) == [check] and verify.exit_code(rows) == 1
  assert re.search(told, text), text


@exhaustive
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_breaks_nothing_else(fault):
  rows, text = checked(f"fault={fault}", meshes=["fsdp_tp"])
  assert verify.broken(rows) == [FAULTS[fault][0]], text


@pytest.mark.slow
def test_without_a_fault_everything_holds():
  result = command(PLANTED, "--mesh", "fsdp_tp")
  assert result.returncode == 0, result.stdout + result.stderr
  named = {line.split()[0] for line in result.stdout.splitlines() if line.strip()}
  assert {check.name for check in CHECKS} <= named


@exhaustive
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_holds_as_a_user_runs_it(path, tmp_path):
  """In a process of its own, which makes its eight devices itself."""
  result = command(str(path))
  assert result.returncode == 0, result.stdout + result.stderr
  assert "made small" in result.stdout and "BROKEN" not in result.stdout


@pytest.mark.slow
def test_a_user_sees_what_is_broken_and_the_exit_code_says_so():
  result = command(PLANTED, "fault=summed_loss", "--only", "microbatches,evaluation")
  assert result.returncode == 1
  assert "BROKEN" in result.stdout and "look: the objective's Mean" in result.stdout
  assert "evaluation" in result.stdout and "not checked: mend microbatches first" in result.stdout


def command(*words):
  environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
  line = [sys.executable, "-m", "research.cli", "verify", *words]
  return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
  ("arguments", "told"),
  [
    ([PLANTED, "--only", "causalty"], "no check 'causalty'. Did you mean 'causality'?"),
    ([PLANTED, "--mesh", "fspd"], "neither a mesh nor one of dp"),
    ([PLANTED, "--mesh", "fsdp=x"], "neither a mesh nor one of dp"),
    (["nothing.py"], "no such experiment file"),
    ([PLANTED, "fautl=x"], "no such knob. Did you mean 'fault'?"),
    ([str(ROOT / "experiments" / "ngram.py:orders")], "yields 7 experiments"),
    ([TINY, "text=/no/such.txt", "--only", "data,packing"], "/no/such.txt"),
  ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, told, capsys):
  assert main(["verify", *arguments]) == 2
  error = capsys.readouterr().err
  assert told in error and error.count("\n") == 1


def test_an_evaluation_without_batches_of_a_size_says_so():
  shapeless = types.SimpleNamespace(
    plain=types.SimpleNamespace(evals={"bleu": object()}),
    program=types.SimpleNamespace(measures={}),
  )
  (row,) = evaluation(shapeless)
  assert (row.part, row.verdict) == ("bleu", "does not apply") and "reads its split" in row.note


def test_a_run_too_long_to_be_saved_step_by_step_is_not_resumed():
  with pytest.raises(DoesNotApply, match="600,000 steps"):
    next(resume.resume(types.SimpleNamespace(experiment=large())))


def test_a_run_that_was_not_interrupted_is_no_proof(tmp_path, monkeypatch):
  sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
  start = functools.partial(subprocess.Popen, sleeping, stdout=subprocess.PIPE)
  monkeypatch.setattr(resume, "_start", lambda *_: start())
  monkeypatch.setattr(resume, "PATIENCE", 0)
  for saved in (0, 12):
    (tmp_path / "checkpoints" / str(saved)).mkdir(parents=True)
    with pytest.raises(RuntimeError, match=f"killed at step {saved} of 12"):
      resume._run_and_kill(types.SimpleNamespace(experiment=large(steps=12)), tmp_path)


def test_a_model_that_cannot_be_built_is_told_with_its_line(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(
    "from flax import linen as nn\nimport planted_faults\nimport dataclasses\n\n\n"
    "class Broken(nn.Module):\n  def encode(self, *inputs):\n    raise ValueError('no idea')\n\n\n"
    "def experiment():\n"
    "  return dataclasses.replace(planted_faults.experiment(), model=Broken())\n"
  )
  (tmp_path / "planted_faults.py").write_text(Path(PLANTED).read_text())
  with pytest.raises(UserError, match=r"cannot be built: ValueError: no idea \(.*mine.py:8\)"):
    checked(target=str(path))


def test_what_does_not_apply_says_why():
  rows, _ = checked(target=f"{ROOT}/experiments/ngram.py:smoke", only=["data", "causality"])
  assert [row.verdict for row in rows["data"]] == ["holds"] * 4
  assert [(row.verdict, row.note) for row in rows["causality"]] == [
    ("does not apply", "a counted model has no gradient and no layers")
  ]


def test_a_mesh_that_an_experiment_cannot_take_does_not_apply():
  rows, _ = checked(only=["devices"], meshes=["tensor=8"])
  assert rows["devices"][0].verdict == "does not apply" and "H=2" in rows["devices"][0].note


@pytest.mark.slow
def test_a_rate_of_dropout_that_is_no_field_is_no_fault():
  rows, text = checked("fault=rate_is_no_field", only=["microbatches"])
  assert not verify.broken(rows), text


def test_every_check_has_a_claim_and_rests_on_earlier_ones():
  names = [check.name for check in CHECKS]
  for i, check in enumerate(CHECKS):
    assert check.claim.endswith(".") and check.look
    assert set(check.needs) <= set(names[:i]), check.name


def test_every_check_finds_a_fault():
  assert {check for check, _ in FAULTS.values()} == {check.name for check in CHECKS}


GPT = models.GPT(
  vocab_size=50_304, max_length=1024, width=1600, depth=48, heads=25, windows=(None, 256)
)


def large(**changes):
  experiment = Experiment(
    name="large",
    data=data.Text(data.Files("none.txt"), data.SentencePiece(32_000), length=1024),
    model=GPT.clone(vocab_size=32_000),
    objective=objectives.NextToken(),
    optimizer=optim.AdamW(optim.Cosine(1e-3, warmup=2_000)),
    steps=600_000,
    batch_size=512,
    microbatches=4,
    evals={"heldout": Eval(objectives.NextToken())},
  )
  return dataclasses.replace(experiment, **changes)


def test_small_keeps_the_structure_and_what_divides():
  made, change = small(large(), lambda experiment: None)
  model = made.model
  assert (model.depth, model.windows) == (4, (None, 8))  # both kinds of layers, twice
  assert model.width % model.heads == 0 and model.width <= 64 and 1 < model.heads <= 4
  assert model.max_length == made.data.length == 32
  assert model.vocab_size == made.data.tokenizer.vocab_size == 512
  assert made.batch_size % 16 == 0 and made.steps < 20
  assert made.optimizer.learning_rate.warmup < made.steps
  assert "model.depth 48 -> 4" in change


def test_a_short_decay_is_made_long_enough_for_a_short_run():
  schedule = optim.WarmupStableDecay(1e-3, warmup=500, decay=0.04)
  made, change = small(large(optimizer=optim.AdamW(schedule)), lambda experiment: None)
  assert made.steps == 12 and "optimizer.learning_rate.decay 0.04 -> 0.25" in change
  assert made.optimizer.groups == optim.AdamW(schedule).groups


def test_small_keeps_a_vocabulary_that_the_data_fixes_and_the_share_of_heads():
  published = data.Text(data.Files("none.txt"), data.HuggingFace("folder"), length=1024)
  grouped = large(data=published, model=GPT.clone(width=1024, heads=32, kv_heads=8))
  model = small(grouped, lambda experiment: None)[0].model
  assert model.vocab_size == 50_304 and (model.heads, model.kv_heads) == (4, 1)


def test_a_model_that_does_not_bear_it_keeps_its_own_size():
  def fits(experiment):
    if experiment.model.width != 1600:
      raise ValueError("1600 or nothing")

  made, change = small(large(), fits)
  assert made.model == large().model and made.data.length == 32
  assert "kept at its own size, because smaller: ValueError: 1600 or nothing" in change


def test_differences_are_relative_to_the_largest_value_and_nan_is_infinitely_far():
  wanted = {"a": np.array([2.0, -4.0]), "b": np.array([0.0])}
  assert furthest({**wanted, "a": np.array([2.0, -4.1])}, wanted) == (pytest.approx(0.025), "a")
  assert furthest({**wanted, "b": np.array([0.04])}, wanted) == (pytest.approx(1.0), "b")
  assert furthest({**wanted, "a": np.array([np.nan, 0.0])}, wanted) == (np.inf, "a")
  assert furthest({"a": wanted["a"]}, wanted) == (np.inf, "b")
  assert furthest({**wanted, "a": np.zeros(3)}, wanted) == (np.inf, "a")


def test_no_two_parts_of_the_batch_weigh_the_same():
  rows = {"tokens": np.ones((8, 16), np.int32), "segments": np.ones((8, 16), np.int32)}
  weights = uneven(rows)["segments"].sum(1)
  assert rows["segments"].all(), "the batch itself is left alone"
  assert weights[::2].sum() != weights[1::2].sum() and len(set(weights)) > 3
