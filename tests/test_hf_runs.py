"""Folders become runs that write, and runs become folders; the tokenizer goes with them."""

import json
import re

import hf_ours
import jax
import numpy as np
import pytest
from hf_ours import CASES
from safetensors.numpy import load_file, save_file

from research import checkpoint, data, hf, models, record, sample, update, warm_start
from research.cli import main
from research.data.hugging_face import HuggingFaceVocabulary
from research.errors import UserError
from research.hf import vocabulary
from research.load import recipe
from research.retention import Keep
from research.stacking import unstack


def with_tokenizer(folder, begin=""):
  """A byte-level tokenizer of 41 tokens, trained on a line, as they are published."""
  from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

  tokenizer = Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  special = ["</s>", "<s>"]
  trainer = trainers.BpeTrainer(vocab_size=41, special_tokens=special)
  tokenizer.train_from_iterator(["the cat sat on the mat"] * 9, trainer)
  if begin:
    tokenizer.post_processor = processors.TemplateProcessing(
      single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
  tokenizer.save(str(folder / "tokenizer.json"))
  about = {"eos_token": {"content": "</s>"}, "tokenizer_class": "PreTrainedTokenizerFast"}
  (folder / "tokenizer_config.json").write_text(json.dumps(about))
  return tokenizer


def test_an_imported_run_writes_and_goes_out_as_it_came(tmp_path, capsys):
  source = hf_ours.make(CASES["llama_plain"], tmp_path / "llama")
  tokenizer = with_tokenizer(source, "<s>")
  run, out = tmp_path / "run", tmp_path / "out"
  assert main(["import", "hf", str(source), "--workdir", str(run)]) == 0
  capsys.readouterr()
  words = ["sample", str(run), "--prompt", "the cat", "--greedy", "--tokens", "5"]
  assert main(words) == 0
  written = capsys.readouterr().out
  assert written.startswith("the cat")
  assert main(["export", "hf", str(run), str(out)]) == 0
  for file in source.iterdir():
    if file.name != "model.safetensors":
      assert json.loads(file.read_text()) == json.loads((out / file.name).read_text())
  before, after = (load_file(f / "model.safetensors") for f in (source, out))
  assert {n: x.tobytes() for n, x in before.items()} == {n: x.tobytes() for n, x in after.items()}

  experiment, _ = record.open_run(run)
  opened = data.load_vocabulary(run / "vocabulary")
  assert opened.begin == tokenizer.token_to_id("<s>")
  assert opened.end == tokenizer.token_to_id("</s>")
  assert experiment.data.tokenizer.fit().begin == opened.begin
  kept = json.loads((run / "experiment.json").read_text())
  assert kept["command"] == f"research import hf {source} --workdir {run}"
  assert str(tmp_path) not in str(kept["knobs"]) + str(kept["description"])
  assert main(["import", "hf", str(source), "--workdir", str(run)]) == 2
  assert "exists already" in capsys.readouterr().err


def test_an_imported_run_is_one_wherever_its_folder_is_moved(tmp_path):
  from research.hf import runs

  source = hf_ours.make(CASES["gpt2_relu"], tmp_path / "gpt2")
  with_tokenizer(source)
  runs.import_run(source, tmp_path / "run")
  moved = (tmp_path / "run").rename(tmp_path / "somebody's folder")
  experiment, kept = record.open_run(moved)
  assert experiment.data.tokenizer.path == str(moved / "vocabulary")
  assert kept["knobs"] == {"weights": repr(str(moved))}
  runs.export_run(moved, tmp_path / "out")
  old = json.dumps(kept, indent=1)  # as it was written before: whole paths
  (moved / "experiment.json").write_text(old)
  assert record.open_run(moved)[0] == experiment


@pytest.mark.parametrize("name", ["llama_plain", "bert_plain", "t5_untied", "clip_plain"])
def test_every_kind_that_is_trained_starts_from_what_was_imported(name, tmp_path):
  from research.hf import runs

  source = hf_ours.make(CASES[name], tmp_path / "source")
  with_tokenizer(source)
  runs.import_run(source, tmp_path / "run")
  experiment, _ = record.open_run(tmp_path / "run")
  mesh = experiment.sharding.make_mesh(jax.devices()[:1])
  wanted = update.build(experiment, mesh, update.abstract_batch(experiment)).abstract.params
  match = warm_start.find(experiment.init_from, unstack(wanted)).match
  assert match.taken and not match.new
  experiment.data.tokenizer.fit().save(tmp_path / "tuned" / "vocabulary")
  warm_start.same_words(experiment.init_from, tmp_path / "tuned")


def test_imported_captions_begin_and_are_filled_up_as_their_tower_learned_them(tmp_path):
  from research.hf import runs

  for name, begin, about, start, pad in (
    ("clip_plain", "<s>", {"eos_token": "</s>"}, 1, 0),
    ("clip_plain", "", {"eos_token": "<s>"}, None, 0),
    ("siglip_plain", "", {"eos_token": "<s>"}, None, 1),
    ("siglip_plain", "", {"eos_token": "</s>", "pad_token": {"content": "<s>"}}, None, 1),
    ("siglip_plain", "", None, None, 0),
  ):
    home = tmp_path / f"{name} {about}"
    source = hf_ours.make(CASES[name], home / "source")
    if about is not None:
      with_tokenizer(source, begin)
      (source / "tokenizer_config.json").write_text(json.dumps(about))
    runs.import_run(source, home / "run")
    dataset = record.open_run(home / "run")[0].data
    assert (dataset.start, dataset.pad) == (start, pad)


def test_a_decoder_is_sampled_from_the_token_that_led_its_documents(tmp_path, monkeypatch):
  source = hf_ours.make(CASES["llama_plain"], tmp_path / "llama")
  with_tokenizer(source, "<s>")
  run, tuned = tmp_path / "run", tmp_path / "tuned"
  assert main(["import", "hf", str(source), "--workdir", str(run)]) == 0
  made = recipe("research/hf/imported.py:text", [f"weights={run}"])
  record.remember(tuned, made, made.experiment())
  words = data.load_vocabulary(run / "vocabulary")
  words.save(tuned / "vocabulary")
  firsts = []

  def continuations(experiment, options, prompt, *more):
    firsts.append(prompt[0])
    return iter([])

  monkeypatch.setattr(sample, "continuations", continuations)
  for folder in (run, tuned):
    assert main(["sample", str(folder), "--prompt", "the cat"]) == 0
  assert firsts == [words.begin, words.end] and words.begin != words.end


def test_an_imported_model_reads_sources_behind_the_token_that_it_learned(tmp_path, monkeypatch):
  source = hf_ours.make(CASES["bart_plain"], tmp_path / "bart")
  with_tokenizer(source, "<s>")
  run = tmp_path / "run"
  assert main(["import", "hf", str(source), "--workdir", str(run)]) == 0
  words, sources = data.load_vocabulary(run / "vocabulary"), []

  def translate(model, params, given, **settings):
    sources.extend(given)
    return [np.array([words.end])]

  monkeypatch.setattr(sample.generate, "translate", translate)
  assert main(["sample", str(run), "--prompt", "the cat"]) == 0
  assert sources[0].tolist() == [words.begin, *words.encode("the cat"), words.end]
  assert sample.source_lead(run, words) == (words.begin,)
  assert sample.source_lead(run, data.Bytes().fit()) == sample.source_lead(tmp_path, words) == ()


def test_an_encoder_writes_no_text_and_says_so(tmp_path, capsys):
  source = hf_ours.make(CASES["bert_plain"], tmp_path / "bert")
  with_tokenizer(source)
  run = str(tmp_path / "run")
  assert main(["import", "hf", str(source), "--workdir", run]) == 0
  assert main(["sample", run, "--prompt", "the cat"]) == 2
  assert "a BERT does not write text" in capsys.readouterr().err


def test_targets_go_out_with_the_token_that_they_were_trained_behind(tmp_path):
  from research.hf import runs

  with_tokenizer(tmp_path, "<s>")
  words = vocabulary.read(tmp_path, {})
  model = models.Transformer(vocab_size=41, max_length=8, width=8, depth=1, heads=1)
  numbers = runs._tokens(model, words)
  assert numbers["decoder_start_token_id"] == words.end != words.begin


@pytest.mark.slow
def test_fine_tuning_starts_with_what_was_imported(tmp_path, capsys):
  source = hf_ours.make(CASES["gpt2_relu"], tmp_path / "gpt2")
  with_tokenizer(source)
  run, tuned = str(tmp_path / "run"), tmp_path / "tuned"
  assert main(["import", "hf", str(source), "--workdir", run]) == 0
  (tmp_path / "text.txt").write_text("".join(f"{'the cat ' * i}\n" for i in range(2, 90)))
  file, text = "research/hf/imported.py:text", f"documents={tmp_path}/text.txt"
  settings = ["steps=2", "peak=0.0", "length=8", "batch_size=8", "data.documents.separator=\n"]
  assert main(["run", file, f"weights={run}", text, *settings, "--workdir", str(tuned)]) == 0
  assert f"starts from {run}/checkpoints/0" in capsys.readouterr().err
  with checkpoint.of_run(tuned) as after, checkpoint.of_run(run) as before:
    found, wanted = after.arrays(2, "params"), before.arrays(0, "params")
  assert sorted(found) == sorted(wanted)
  assert all((np.asarray(found[name]) == np.asarray(wanted[name])).all() for name in wanted)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path, capsys):
  source = hf_ours.make(CASES["gpt2_relu"], tmp_path / "gpt2")
  held = json.loads(json.dumps({"a": 0, "</s>": 1, **{f"w{i}": i + 2 for i in range(60)}}))
  (source / "vocab.json").write_text(json.dumps(held))
  (source / "merges.txt").write_text("#version: 0.2\n")
  assert main(["import", "hf", str(source), "--workdir", str(tmp_path / "run")]) == 2
  assert "62 tokens, and the model embeddings of only 41" in capsys.readouterr().err
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  "name", ["bert_plain", "roberta_bare", "t5_untied", "bart_bare", "clip_plain", "vit_classes"]
)
def test_every_kind_becomes_a_run_and_a_folder_again(name, tmp_path):
  from research.hf import runs

  source = hf_ours.make(CASES[name], tmp_path / "source")
  runs.import_run(source, tmp_path / "run")
  experiment, _ = record.open_run(tmp_path / "run")
  assert experiment.model == hf.read(source).model
  runs.export_run(tmp_path / "run", tmp_path / "out")
  before, after = (load_file(f / "model.safetensors") for f in (source, tmp_path / "out"))
  assert {n: x.tobytes() for n, x in before.items()} == {n: x.tobytes() for n, x in after.items()}


EXPERIMENT = """
from research import Experiment, data, models, objectives, optim

def experiment():
  return Experiment(
    name="mine",
    data=data.Text(data.Files("none.txt"), data.Bytes(), 8),
    model=models.GPT(vocab_size=257, max_length=8, width=8, depth=2, heads=2),
    objective=objectives.NextToken(),
    optimizer=optim.SGD(optim.Constant(0.1)),
  )
"""


def test_a_run_of_ones_own_goes_out_with_its_bytes(tmp_path):
  from tokenizers import Tokenizer

  from research.hf import runs

  (tmp_path / "mine.py").write_text(EXPERIMENT)
  made = recipe(f"{tmp_path}/mine.py")
  experiment = made.experiment()
  run = tmp_path / "run"
  record.remember(run, made, experiment)
  tokens = np.zeros((1, 8), np.int32)
  model = experiment.model.clone(layers="loop")
  import flax.linen as nn

  params = nn.meta.unbox(model.init(jax.random.key(0), tokens))["params"]
  with checkpoint.Checkpoints(run / "checkpoints", keep=Keep()) as checkpoints:
    checkpoints.save(3, {"params": params})
  data.Bytes().fit().save(run / "vocabulary")
  runs.export_run(run, tmp_path / "out")
  back = hf.read(tmp_path / "out")
  assert back.config["eos_token_id"] == 256 and back.config["architectures"] == ["GPT2LMHeadModel"]
  jax.tree.map(np.testing.assert_array_equal, back.params, jax.tree.map(np.asarray, params))
  tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
  text = "Grüße,\n  世界\t<|endoftext|"
  assert tokenizer.encode(text).ids == list(text.encode())
  assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_any_piece_may_end_or_begin_a_text_and_goes_out_as_it_is_called():
  from tokenizers import Tokenizer, models

  plain = Tokenizer(models.BPE({"a": 0, "<s>": 1, "</s>": 2}, [])).to_str()
  written = vocabulary.files(HuggingFaceVocabulary(plain, "</s>", "<s>"), 8)
  about = json.loads(written[vocabulary.ABOUT])
  assert (about["bos_token"], about["eos_token"]) == ("<s>", "</s>")


def test_positions_begin_one_behind_the_padding_that_goes_out():
  from tokenizers import Tokenizer
  from tokenizers import models as kinds

  from research.hf import runs

  tokenizer = Tokenizer(kinds.BPE({"a": 0, "[PAD]": 1, "</s>": 2}, []))
  tokenizer.add_special_tokens(["[PAD]", "</s>"])
  words = HuggingFaceVocabulary(tokenizer.to_str(), "</s>")
  model = models.BERT(vocab_size=3, max_length=4, width=4, depth=1, heads=1)
  for offset in (None, 2):
    assert runs._tokens(model.clone(position_offset=offset), words)["pad_token_id"] == 1
  with pytest.raises(UserError, match=r"\[PAD\]=1 .* train with model.position_offset=2"):
    runs._tokens(model.clone(position_offset=3), words)


def test_dropouts_that_fine_tuning_would_not_have_are_told(tmp_path, capsys):
  source = hf_ours.make(CASES["gpt2_relu"], tmp_path / "gpt2")
  config = json.loads((source / "config.json").read_text())
  for attention, said in (
    (0.1, ""),
    (0.0, "dropout=0.1 in all places here, .* attn_pdrop=0.0;"),
  ):
    config |= {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": attention}
    (source / "config.json").write_text(json.dumps(config))
    assert main(["import", "hf", str(source), "--workdir", str(tmp_path / f"run{attention}")]) == 0
    error = capsys.readouterr().err
    assert re.search(said, error) and error.count("note:") == bool(said)


def test_a_scale_beyond_the_bound_is_one_in_the_run_too(tmp_path):
  from research.hf import runs

  source = hf_ours.make(CASES["clip_plain"], tmp_path / "source")
  held = load_file(source / "model.safetensors")
  save_file({**held, "logit_scale": np.asarray(4.7, np.float32)}, source / "model.safetensors")
  runs.import_run(source, tmp_path / "run")
  assert record.open_run(tmp_path / "run")[0].model.largest_scale is None
  runs.export_run(tmp_path / "run", tmp_path / "out")
  assert load_file(tmp_path / "out" / "model.safetensors")["logit_scale"] == np.float32(4.7)
  assert sorted(f.name for f in (tmp_path / "out").iterdir()) == [
    "config.json",
    "model.safetensors",
  ]


def test_the_leading_token_is_found_whatever_a_tokenizer_fills_up(tmp_path):
  from tokenizers import Tokenizer, models, processors

  tokenizer = Tokenizer(models.WordLevel({"<s>": 0, "a": 1, "<pad>": 2, "</s>": 3}, "<pad>"))
  tokenizer.add_special_tokens(["<s>", "<pad>", "</s>"])
  tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
  tokenizer.enable_padding(pad_id=2, length=8)
  tokenizer.save(str(tmp_path / "tokenizer.json"))
  assert vocabulary.read(tmp_path, {"eos_token_id": 3}).begin == 0


def test_the_tokens_are_those_of_the_vocabulary(tmp_path):
  tokenizer = with_tokenizer(tmp_path)
  words = vocabulary.read(tmp_path, {})
  text = "the cat sat on the mat"
  assert words.encode(text).tolist() == tokenizer.encode(text).ids
  assert words.begin == words.end == tokenizer.token_to_id("</s>")
