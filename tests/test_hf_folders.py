"""Folders that are damaged, hostile or of another kind end in one line, and leave nothing."""

import json
import pathlib
import struct

import hf_cases
import hf_ours
import jax
import numpy as np
import pytest
from hf_ours import CASES
from safetensors.numpy import load_file, save_file

from research import hf
from research.cli import main
from research.errors import UserError
from research.hf import folder as folders
from research.hf import tensors
from research.models import BERT, GPT
from research.stacking import unstack

TENSORS = "model.safetensors"


@pytest.fixture
def folder(tmp_path):
  return hf_ours.make(CASES["gpt2_relu"], tmp_path / "gpt2")


def rewritten(folder, change):
  """Changes the tensors of a folder."""
  held = load_file(folder / TENSORS)
  change(held)
  save_file(held, folder / TENSORS)


def configured(folder, **values):
  path = folder / "config.json"
  path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def with_header(folder, change):
  """Writes the file again with another header over the same bytes."""
  data = (folder / TENSORS).read_bytes()
  length = struct.unpack("<Q", data[:8])[0]
  header = json.loads(data[8 : 8 + length])
  header.pop("__metadata__", None)
  change(header)
  text = json.dumps(header).encode()
  (folder / TENSORS).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def flat(params):
  return {name: np.asarray(x) for name, x in unstack(params).items()}


NAME = "transformer.wte.weight"


def overlap(header):
  first = min(header.values(), key=lambda about: about["data_offsets"])
  header["more"] = dict(first)


DAMAGE = {
  "no config.json is missing": lambda f: (f / "config.json").unlink(),
  "config.json cannot be read": lambda f: (f / "config.json").write_text("{"),
  "is no JSON object": lambda f: (f / "config.json").write_text("[]"),
  "model_type='gpt3' is not known here. Did you mean 'gpt2'": lambda f: configured(
    f, model_type="gpt3"
  ),
  "asks for code of its own": lambda f: configured(f, auto_map={"AutoModel": "evil.Model"}),
  "describes quantized weights": lambda f: configured(f, quantization_config={"bits": 4}),
  "n_head='many' is not a count": lambda f: configured(f, n_head="many"),
  "n_layer=-1": lambda f: configured(f, n_layer=-1),
  "activation_function='gelu_nwe' is no activation": lambda f: configured(
    f, activation_function="gelu_nwe"
  ),
  "scale_attn_by_inverse_layer_idx=True is not supported": lambda f: configured(
    f, scale_attn_by_inverse_layer_idx=True
  ),
  f"{NAME} is \\[41, 12\\], and config.json makes it \\[50, 12\\]": lambda f: configured(
    f, vocab_size=50
  ),
  "lacks transformer.h.1.attn.c_attn.weight and 11 more": lambda f: configured(f, n_layer=2),
  f"lacks {NAME}": lambda f: rewritten(f, lambda held: held.pop(NAME)),
  "holds adapter.weight, which no gpt2 model here has": lambda f: rewritten(
    f, lambda held: held.update({"adapter.weight": np.ones(3, np.float32)})
  ),
  "lm_head.weight differs from what it should repeat": lambda f: rewritten(
    f, lambda held: held.update({"lm_head.weight": np.ones((41, 12), np.float32)})
  ),
  f"{NAME} is I32": lambda f: rewritten(
    f, lambda held: held.update({NAME: held[NAME].astype(np.int32)})
  ),
  "has no weights": lambda f: (f / TENSORS).unlink(),
  "pytorch_model.bin, which is not read: such files can run code": lambda f: (f / TENSORS).rename(
    f / "pytorch_model.bin"
  ),
  "its tensors take .* bytes, and it has": lambda f: (f / TENSORS).write_bytes(
    (f / TENSORS).read_bytes()[:-7]
  ),
  "its header would be": lambda f: (f / TENSORS).write_bytes(b"\xff" * 7 + b"\x7f" + b"{}"),
  "its header would be 0 bytes|no whole": lambda f: (f / TENSORS).write_bytes(b""),
  "no whole safetensors file": lambda f: (f / TENSORS).write_bytes(
    struct.pack("<Q", 90_000) + b"[" * 90_000
  ),
  "has the unknown dtype 'F128'": lambda f: with_header(
    f, lambda header: header[NAME].update(dtype="F128")
  ),
  "does not fit the .* bytes": lambda f: with_header(
    f, lambda header: header[NAME].update(shape=[2**40, 2**40])
  ),
  "overlaps": lambda f: with_header(f, overlap),
  "lies at": lambda f: with_header(
    f, lambda header: header[NAME].update(data_offsets=[-4, 10**30])
  ),
  "leaves a hole|bytes, and it has": lambda f: with_header(f, lambda header: header.pop(NAME)),
  "is missing, which model.safetensors.index.json names": lambda f: sharded(f, lose="00002"),
  "names '../secret.safetensors'": lambda f: sharded(f, rename="../secret.safetensors"),
  "lacks more.weight, which": lambda f: sharded(f, claim="more.weight"),
}


def sharded(folder, lose="", rename="", claim=""):
  held = load_file(folder / TENSORS)
  (folder / TENSORS).unlink()
  tensors.write(folder, held, shard=1_000)
  index = json.loads((folder / tensors.INDEX).read_text())
  if lose:
    next(folder.glob(f"*{lose}-of*")).unlink()
  if rename:
    index["weight_map"][NAME] = rename
  if claim:
    index["weight_map"][claim] = index["weight_map"][NAME]
  (folder / tensors.INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize("says", DAMAGE)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(says, folder, tmp_path, capsys):
  DAMAGE[says](folder)
  code = main(["import", "hf", str(folder), "--workdir", str(tmp_path / "run")])
  error = capsys.readouterr().err
  assert code == 2 and error.count("\n") == 1, error
  with pytest.raises(UserError, match=says.removeprefix("no ")):
    raise UserError(error)
  assert [path.name for path in tmp_path.iterdir()] == ["gpt2"]


def test_a_sharded_folder_is_the_same_model(folder, tmp_path):
  whole = hf.read(folder)
  sharded(folder)
  parts = hf.read(folder)
  jax.tree.map(np.testing.assert_array_equal, whole.params, parts.params)
  assert len(list(folder.glob("*.safetensors"))) > 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_floats_are_read_as_float32(dtype, folder):
  from ml_dtypes import bfloat16

  narrow = bfloat16 if dtype == "bfloat16" else dtype
  exact = load_file(folder / TENSORS)[NAME].astype(narrow).astype(np.float32)
  rewritten(folder, lambda held: held.update({n: x.astype(narrow) for n, x in held.items()}))
  table = hf.read(folder).params["embed"]["table"]
  assert table.dtype == np.float32
  np.testing.assert_array_equal(table, exact)


def test_older_spellings_and_buffers_are_understood(tmp_path):
  folder = hf_ours.make(CASES["bert_plain"], tmp_path / "bert")
  new = hf.read(folder).params

  def older(held):
    for name in [n for n in held if "LayerNorm" in n]:
      ending = "gamma" if name.endswith("weight") else "beta"
      held[f"{name.rsplit('.', 1)[0]}.{ending}"] = held.pop(name)
    held["bert.embeddings.position_ids"] = np.arange(24)[None]
    held["cls.predictions.decoder.weight"] = held["bert.embeddings.word_embeddings.weight"]

  rewritten(folder, older)
  jax.tree.map(np.testing.assert_array_equal, new, hf.read(folder).params)


POOLER = {"pooler.dense.weight": (12, 12), "pooler.dense.bias": (12,)}


@pytest.mark.parametrize(
  ("name", "more", "less"),
  [
    ("roberta_plain", "roberta.", ()),
    ("bert_words", "bert.", ()),
    ("bert_words", None, ("cls.",)),
    ("roberta_plain", None, ("lm_head.",)),
    ("bert_bare", None, ("pooler.",)),
    ("roberta_bare", None, ("pooler.",)),
    ("vit_plain", None, ("pooler.",)),
    ("vit_two", None, ("classifier.",)),
  ],
)
def test_a_head_more_or_less_goes_out_as_it_came(name, more, less, tmp_path):
  source = hf_ours.make(CASES[name], tmp_path / "source")

  def change(held):
    for tensor in [n for n in held if n.startswith(less)] if less else ():
      del held[tensor]
    if more:
      held |= {more + n: hf_cases.weight(n, shape) for n, shape in POOLER.items()}

  rewritten(source, change)
  found = hf.read(source)
  hf.write(tmp_path / "out", found.model, flat(found.params), config=found.config)
  before, after = (load_file(f / TENSORS) for f in (source, tmp_path / "out"))
  assert {n: x.tobytes() for n, x in before.items()} == {n: x.tobytes() for n, x in after.items()}
  assert json.loads((tmp_path / "out" / "config.json").read_text()) == found.config


def test_a_pooler_that_transformers_would_leave_out_is_refused(tmp_path):
  source = hf_ours.make(CASES["vit_two"], tmp_path / "source")
  more = {"vit." + n: hf_cases.weight(n, shape) for n, shape in POOLER.items()}
  rewritten(source, lambda held: held.update(more))
  with pytest.raises(UserError, match=r"take the tensors pooler\.\* out of it"):
    hf.read(source)


def test_a_head_that_was_trained_makes_a_class_that_has_it(tmp_path):
  found = hf.read(hf_ours.make(CASES["roberta_plain"], tmp_path / "source"))
  bare = {**found.config, "architectures": ["RobertaModel"]}
  pooler = {"pooler/kernel": np.ones((12, 12)), "pooler/bias": np.ones(12)}
  hf.write(tmp_path / "out", found.model, {**flat(found.params), **pooler}, config=bare)
  assert hf.read(tmp_path / "out").config["architectures"] == ["RobertaForMaskedLM"]


def scaled(folder, log_scale):
  rewritten(folder, lambda held: held.update(logit_scale=np.asarray(log_scale, np.float32)))
  return hf.read(folder)


def test_a_scale_beyond_the_bound_comes_in_and_goes_out_as_it_was(tmp_path):
  folder = hf_ours.make(CASES["clip_plain"], tmp_path / "clip")
  for log_scale, bound in ((np.log(100), 100), (4.7, None)):
    found = scaled(folder, log_scale)
    assert found.model.largest_scale == bound
    scale = found.model.apply({"params": found.params}, method="scale")
    assert scale == pytest.approx(np.exp(log_scale))
    out = tmp_path / f"out {bound}"
    hf.write(out, found.model, flat(found.params), config=found.config)
    assert load_file(out / TENSORS)["logit_scale"] == np.float32(log_scale)


def test_a_scale_goes_out_as_the_model_bounds_it(tmp_path):
  found = scaled(hf_ours.make(CASES["clip_plain"], tmp_path / "clip"), 4.7)
  bounded = found.model.clone(largest_scale=50.0)
  hf.write(tmp_path / "out", bounded, flat(found.params), config=found.config)
  written = load_file(tmp_path / "out" / TENSORS)["logit_scale"]
  assert written == pytest.approx(np.log(50)) and written.dtype == np.float32


def described(kind, **values):
  """Our model of a config alone."""
  base = {"model_type": kind, **hf_cases.BASES[kind], **values}
  return folders.model(pathlib.Path("here"), base, {"classifier.weight"})[1]


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_a_window_that_is_not_given_is_that_of_transformers(kind):
  sliding = {"use_sliding_window": True, "max_window_layers": 0}
  assert described(kind, **sliding).windows == (4096,)
  assert described(kind, **sliding, sliding_window=None).windows == ()
  assert described(kind).windows == ()


@pytest.mark.parametrize(
  ("kind", "values", "says"),
  [
    ("qwen2", {"max_window_layers": "x"}, "max_window_layers='x' is not a count, at least 0"),
    ("qwen2", {"layer_types": 5}, "layer_types=5 is not a list of names"),
    ("qwen2", {"layer_types": [{}]}, "layer_types=.* is not a list of names"),
    ("vit", {"id2label": 5}, "id2label=5 is not an object"),
    ("gpt2", {"architectures": [{}]}, "architectures=.* is not a list of names"),
  ],
)
def test_a_value_of_another_type_is_told(kind, values, says):
  with pytest.raises(UserError, match=says):
    described(kind, **hf_cases.SLIDING, **values)


def test_null_is_the_number_of_layers_that_transformers_takes():
  assert described("qwen2", **hf_cases.SLIDING, max_window_layers=None).windows == ()


def test_of_two_names_of_a_value_transformers_reads_the_older():
  both = {"rope_scaling": hf_cases.LINEAR, "rope_parameters": hf_cases.YARN}
  alone = {"rope_scaling": None, "rope_parameters": hf_cases.LINEAR}
  assert described("llama", **both) == described("llama", **alone)
  older = {**hf_cases.CAPTIONS, "hidden_size": 24}
  found = described("clip", text_config_dict=older, vision_config_dict=None)
  assert found == described("clip", text_config=older)
  config = {"model_type": "clip", **hf_cases.BASES["clip"], "text_config_dict": older}
  again = folders.described(found.clone(text_heads=4), config)[1]
  assert folders.model(pathlib.Path("here"), again, ())[1].text_heads == 4


def test_positions_behind_padding_need_one_before_them():
  model = BERT(vocab_size=8, max_length=4, width=4, depth=1, heads=2, position_offset=0)
  with pytest.raises(UserError, match=r"position_offset=0 cannot be exported: .* at least 1"):
    folders.described(model, {"model_type": "roberta"})


def test_a_prefix_may_be_left_out(folder):
  whole = hf.read(folder).params

  def bare(held):
    for name in list(held):
      held[name.removeprefix("transformer.")] = held.pop(name)
    held["h.0.attn.bias"] = np.ones((1, 1, 40, 40), np.float32)

  rewritten(folder, bare)
  jax.tree.map(np.testing.assert_array_equal, whole, hf.read(folder).params)


@pytest.mark.parametrize(
  ("changes", "says"),
  [
    ({"norm": "rms"}, "model.norm='rms' cannot be exported: GPT-2 has only 'layer'"),
    ({"windows": (None, 4)}, "model.windows=\\(None, 4\\) cannot be exported"),
    ({"activation": "swiglu"}, "model.activation='swiglu' cannot be exported"),
  ],
)
def test_what_transformers_has_no_model_for_is_not_written(changes, says, tmp_path):
  model = GPT(vocab_size=8, max_length=4, width=4, depth=1, heads=2).clone(**changes)
  with pytest.raises(UserError, match=says):
    hf.write(tmp_path / "out", model, {})
  assert not list(tmp_path.iterdir())


def test_a_path_that_is_taken_is_left_alone(folder):
  found = hf.read(folder)
  before = (folder / "config.json").read_bytes()
  with pytest.raises(UserError, match="exists already"):
    hf.write(folder, found.model, {}, config=found.config)
  assert (folder / "config.json").read_bytes() == before


@pytest.mark.parametrize(
  "name", ["gpt2_plain", "llama_bare", "bert_words", "siglip_plain", "vit_two"]
)
def test_every_parameter_of_ours_has_a_name_of_theirs(name, tmp_path):
  """What is imported is what the model asks for when it is initialized, but for absent heads."""
  case = CASES[name]
  found = hf.read(hf_ours.make(case, tmp_path / "case"))
  given = case.inputs

  def everything(model):
    if case.kind == "siglip":
      return (
        model.encode_image(given["image"]),
        model.encode_text(given["caption"], given["ends"]),
        model.scale(),
      )
    return model(given["image" if case.kind == "vit" else "tokens"])

  import flax.linen as nn

  shapes = jax.eval_shape(nn.init(everything, found.model.clone(layers="loop")), jax.random.key(0))
  wanted = nn.meta.unbox(shapes)["params"]
  wanted = {part: tree for part, tree in wanted.items() if part in found.params}
  assert jax.tree.map(np.shape, found.params) == jax.tree.map(np.shape, wanted)
  assert hf_cases.V == 41
