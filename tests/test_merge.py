"""A run with adapters is sampled from, merged for good and exported as the model that it is."""

import shutil

import jax
import numpy as np
import pytest

from research import Sharding, load, record, sample, train
from research.checkpoint import Checkpoints
from research.cli import main
from research.stacking import unstack

FILE = """
from research import Experiment, InitFrom, LoRA, Sharding, data, models, objectives, optim

def experiment(text: str, steps=2):
  return Experiment(
    name="plain",
    data=data.Text(data.Files(text, separator="\\n"), data.Bytes(), length=16),
    model=models.GPT(vocab_size=264, max_length=16, width=16, depth=1, heads=2),
    objective=objectives.NextToken(),
    optimizer=optim.AdamW(0.1),
    steps=steps,
    batch_size=8,
    sharding=Sharding(mesh={"data": 1}),
  )

def adapted(text: str, run: str):
  return experiment(text, steps=4).vary("adapted", {
    "data.tokenizer": data.FromRun(run),
    "init_from": InitFrom(run, new=("_lora_",)),
    "adapters": LoRA("(query|value)/kernel$", rank=2, alpha=4.0),
    "optimizer.groups.frozen": (optim.all_but("_lora_"),),
    "average": 0.5,
    "save_every": 2,
  })
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """A folder with the run `plain`, the run `adapted` that started from it, and it `merged`."""
  root = tmp_path_factory.mktemp("runs")
  lines = ["to be or not to be", "that is the question", "whether it is nobler"] * 30
  (root / "text.txt").write_text("\n".join(f"{line} {i}" for i, line in enumerate(lines)))
  (root / "file.py").write_text(FILE)
  file, text = root / "file.py", f"text={root / 'text.txt'}"
  run(load.recipe(str(file), [text]), root / "plain")
  run(load.recipe(f"{file}:adapted", [text, f"run={root / 'plain'}"]), root / "adapted")
  assert main(["merge", str(root / "adapted"), "--workdir", str(root / "merged")]) == 0
  return root


def run(recipe, folder):
  record.remember(folder, recipe, recipe.experiment())
  mesh = Sharding(mesh={"data": 1}).make_mesh(jax.devices()[:1])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Sharding, "make_mesh", lambda self, devices=None: mesh)
    train.train(recipe.experiment(), folder)


def params(folder, step=None):
  experiment, _ = record.open_run(folder)
  return {
    name: np.array(x) for name, x in unstack(sample.open_params(experiment, folder, step)).items()
  }


def test_merged_it_is_what_it_was_with_adapters(runs):
  before, with_adapters, merged = (params(runs / name) for name in ("plain", "adapted", "merged"))
  assert sorted(before) == sorted(with_adapters) == sorted(merged)
  for name in before:
    np.testing.assert_array_equal(with_adapters[name], merged[name], err_msg=name)
    changed = name.endswith(("query/kernel", "value/kernel"))
    assert (before[name] != merged[name]).any() == changed, name


def test_a_merged_run_is_sampled_from_and_exported(runs, capsys, tmp_path):
  options = ["--prompt", "to be", "--tokens", "4", "--greedy"]
  texts = []
  for name in ("adapted", "merged"):
    assert main(["sample", str(runs / name), *options]) == 0
    texts.append(capsys.readouterr().out)
  assert texts[0] == texts[1]
  assert main(["export", "hf", str(runs / "merged"), str(tmp_path / "out")]) == 0
  assert (tmp_path / "out" / "model.safetensors").is_file()


def test_resumed_it_ends_as_unbroken(runs, tmp_path):
  folder = tmp_path / "broken"
  shutil.copytree(runs / "adapted", folder)
  shutil.rmtree(folder / "checkpoints" / "4")
  words = [f"text={runs / 'text.txt'}", f"run={runs / 'plain'}"]
  run(load.recipe(f"{runs / 'file.py'}:adapted", words), folder)
  whole, resumed = params(runs / "adapted", 4), params(folder, 4)
  for name in whole:
    np.testing.assert_array_equal(whole[name], resumed[name], err_msg=name)


def test_a_merged_run_keeps_the_words_of_both_sides(runs, tmp_path):
  folder = tmp_path / "adapted"
  shutil.copytree(runs / "adapted", folder)
  shutil.copytree(folder / "vocabulary", folder / "source_vocabulary")
  assert main(["merge", str(folder), "--workdir", str(tmp_path / "out")]) == 0
  for name in ("vocabulary", "source_vocabulary"):
    kept, was = ({p.name for p in (x / name).iterdir()} for x in (tmp_path / "out", folder))
    assert kept == was


def test_its_checkpoints_say_what_it_started_from(runs):
  with Checkpoints(runs / "adapted" / "checkpoints") as checkpoints:
    about = checkpoints.stored(4).about["init_from"]
  assert "plain/checkpoints/2" in about and "new: blocks/0/attention/query/kernel_lora_a" in about


def test_a_plain_run_is_not_merged(runs, tmp_path, capsys):
  assert main(["merge", str(runs / "plain"), "--workdir", str(tmp_path / "out")]) == 2
  assert "has no adapters" in capsys.readouterr().err
  assert not (tmp_path / "out").exists()
