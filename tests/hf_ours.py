"""Our side of the comparison with Hugging Face: the folders of the cases, and what we predict."""

import functools
import json
import pathlib

import flax.linen as nn
import hf_cases
import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from safetensors.numpy import save_file

from research import generate, hf
from research.nn.cross_entropy import unembed

GOLDEN = np.load(pathlib.Path(__file__).parent / "golden" / "hf.npz")
CASES = {case.name: case for case in hf_cases.CASES}
SEQUENCES = ("t5", "mt5", "bart", "marian")


def stored(case, name):
  return json.loads(bytes(GOLDEN[f"{case.name}/{name}"]))


def golden(case):
  """What theirs predict, by name."""
  return {key.split("/")[1]: GOLDEN[key] for key in GOLDEN if key.startswith(f"{case.name}/")}


def make(case, folder):
  """The folder that Hugging Face would save, with the weights of the cases."""
  folder.mkdir(parents=True)
  (folder / "config.json").write_text(json.dumps(stored(case, "config")))
  tensors = {name: hf_cases.weight(name, shape) for name, shape in stored(case, "tensors").items()}
  save_file(tensors, folder / "model.safetensors")
  return folder


def parameters(kind, model, weights):
  """Our parameters of a model, from their tensors by name."""
  flat = {}
  for tensor in hf.FAMILIES[kind].tensors(model):
    if tensor.theirs in weights:
      flat |= tensor.read(weights[tensor.theirs])
  return unflatten_dict(flat, sep="/")


def decoder(model, given):
  hidden = model.encode(given["tokens"], given["mask"])
  return {"hidden": hidden, "logits": unembed(hidden, model.table())}


def encoder_decoder(model, given):
  memory = model.encode(given["tokens"], given["mask"])
  states = model.decode(given["targets"], memory, given["mask"])
  logits = unembed(states, model.table(), model.biases())
  return {"memory": memory, "states": states, "logits": logits}


def encoder(has, model, given):
  segments = (given["types"] + 1) * given["mask"]
  hidden = model.encode(given["tokens"], segments)
  found = {"hidden": hidden}
  if "word_head" in has:
    states, bias = model.word_head(hidden)
    found["words"] = unembed(states, model.table(), bias)
  if "pooler" in has:
    found["pooled"] = model.pool(hidden)
  if "next_sentence_head" in has:
    found["next_sentence"] = model.next_sentence(hidden)
  return found


def pair(model, given):
  image = model.encode_image(given["image"])
  text = model.encode_text(given["caption"], given["ends"])
  scores = image @ text.T * model.scale()
  if model.bias is not None:
    scores += model.score_bias()
  return {"image": image, "text": text, "scores": scores}


def picture(model, given):
  return {"pictures": model(given["image"])}


def predicted(case, model, params):
  """What the golden file has of a case, as ours predicts it."""
  kinds = {"clip": pair, "siglip": pair, "vit": picture}
  kinds |= dict.fromkeys(("bert", "roberta"), functools.partial(encoder, tuple(params)))
  kinds |= dict.fromkeys(SEQUENCES, encoder_decoder)
  run = jax.jit(nn.apply(kinds.get(case.kind, decoder), model.clone(layers="loop")))
  return {name: np.asarray(x) for name, x in run({"params": params}, case.inputs).items()}


def differences(case, found, wanted):
  """By name, the largest difference over the largest value, of what is no padding."""
  seen = {}
  for name, ours in found.items():
    if name not in wanted:
      continue
    there = np.ones(len(ours), bool)
    if name in ("hidden", "memory", "words") or (name == "logits" and "memory" not in found):
      there = case.inputs["mask"] > 0
    ours, theirs = ours[there], wanted[name][there]
    seen[name] = float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))
  return seen


def written(case, model, params):
  """What follows each row, or stands for it where it is a source: a list of arrays."""
  given = case.inputs
  rows = [row[mask > 0] for row, mask in zip(given["tokens"], given["mask"])]
  if case.kind in SEQUENCES:
    search = generate.Beam(hf_cases.BEAM) if case.beam else generate.Greedy()
    return generate.translate(
      model,
      params,
      rows,
      steps=case.beam or case.greedy,
      begin=(hf_cases.PAD,),
      end=hf_cases.END,
      search=search,
    )
  found = generate.generate(
    model,
    params,
    rows,
    steps=case.greedy,
    sampler=generate.Greedy(),
    key=jax.random.key(0, impl="threefry2x32"),
    end=hf_cases.END,
  )
  return [row[row >= 0] for row in found]
