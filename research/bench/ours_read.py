"""Our workers that read weights: BERT's and CLIP's training, classification, translation.

python -m research.bench.ours_read bert bfloat16 FOLDER
python -m research.bench.ours_read clip bfloat16 FOLDER
python -m research.bench.ours_read classify bfloat16 FOLDER uneven
python -m research.bench.ours_read translate bfloat16 FOLDER 8
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research import flops, generate, hf, memory, update
from research.bench import sizes
from research.bench.ours import facts
from research.bench.serve import serve
from research.bench.weights import INPUTS
from research.experiment import Experiment
from research.generate.language import cast
from research.mesh import Sharding
from research.models import Classifier
from research.nn import platform
from research.nn.cross_entropy import unembed
from research.objectives import InfoNCE, Label, MaskedToken
from research.optim import AdamW
from research.predict import rows


def bert(model: Any, params: Any, inputs: dict[str, np.ndarray]) -> None:
  """Updates of a BERT on masked words; the first loss is compared."""
  batch = {name: inputs[name] for name in ("tokens", "places", "targets")}
  batch["segments"] = np.ones_like(batch["tokens"])
  _training(MaskedToken(), model, params, batch, batch["tokens"].size)


def clip(model: Any, params: Any, inputs: dict[str, np.ndarray]) -> None:
  """Updates of a CLIP; the first loss is compared."""
  pairs = len(inputs["caption"])
  batch = {**inputs, "weights": np.ones(pairs, np.float32)}
  _training(InfoNCE(), model, params, batch, pairs)


def _training(objective: Any, model: Any, params: Any, batch: Any, count: int) -> None:
  made = Experiment(
    name="bench",
    data=None,
    model=model,
    objective=objective,
    optimizer=AdamW(3e-4, weight_decay=0.1),
    steps=1_000,
    batch_size=len(next(iter(batch.values()))),
    sharding=Sharding(mesh={"data": -1, "fsdp": 1, "tensor": 1}),
  )
  shapes = _shapes(batch)
  program = update.build(made, made.sharding.make_mesh(), shapes)
  state = program.begin(params)

  def run():
    nonlocal state
    state, measured = program.step(state, program.place(batch))
    jax.block_until_ready(state)
    return {"close": [float(measured["loss"].mean())]}

  serve(run, count=count, flops=flops.of_training(made, shapes), **facts())


def classify(body: Any, params: Any, inputs: dict[str, np.ndarray], lengths: str) -> None:
  """Probabilities of labels, as `research predict` makes them; all of them are compared."""
  model = Classifier(body, sizes.LABELS)
  head = {"kernel": inputs["kernel"], "bias": inputs["bias"]}
  params = jax.device_put({"body": params, "head": head})
  texts, lengths_B = inputs[lengths], inputs[f"{lengths}_lengths"]
  there = np.arange(texts.shape[1]) < lengths_B[:, None]
  arrays = {"tokens": texts * there, "segments": there.astype(np.int32)}
  predict = rows.compiled(Label(), model)

  def run():
    found = rows.outputs(lambda batch: predict(params, batch), arrays, sizes.ROWS)
    return {"close": np.concatenate([row["probabilities"] for row in found]).tolist()}

  serve(run, count=int(there.sum()), flops=_of_texts(model, lengths_B), **facts())


def translate(model: Any, params: Any, inputs: dict[str, np.ndarray], texts: int) -> None:
  """Greedy decoding, the encoder included: its tokens are compared, and the first logits."""
  params = cast(params, model.dtype)
  sources = inputs["sources"][:texts]

  logits = jax.jit(nn.apply(_first, model))({"params": params}, sources)
  greedy = {"search": generate.Greedy(), "begin": (0,), "end": None, "never": (sizes.END,)}

  def run():
    written = generate.translate(model, params, list(sources), steps=sizes.NEW, **greedy)
    return {"close": logits.ravel().tolist(), "same": np.concatenate(written).tolist()}

  serve(run, count=texts * sizes.NEW, bytes=_read_by_decoder(params), **facts())


def _first(model: Any, sources_BM: jax.Array) -> jax.Array:
  """Some logits of the first word."""
  x_B1D = model.decode(jnp.zeros((len(sources_BM), 1), jnp.int32), model.encode(sources_BM))
  return unembed(x_B1D, model.table(), model.biases())[:, 0, :64]


def _of_texts(model: Any, lengths_B: np.ndarray) -> float:
  """FLOPs of all texts, none of them padded."""
  initialize, apply = (f(_predicted, model) for f in (nn.init, nn.apply))

  def one(length):
    batch = {name: jax.ShapeDtypeStruct((1, length), jnp.int32) for name in ("tokens", "segments")}
    variables = jax.eval_shape(initialize, jax.random.key(0), batch)
    return flops.count(jax.make_jaxpr(apply)(nn.meta.unbox(variables), batch).jaxpr)

  with platform.compiling_for("plain"):
    lengths, counts = np.unique(lengths_B, return_counts=True)
    return sum(count * one(int(length)) for length, count in zip(lengths, counts))


def _predicted(model: Any, batch: dict[str, jax.Array]) -> Any:
  return Label().predict(model, batch)


def _read_by_decoder(params: Any) -> int:
  """Bytes of all that is read for every word of a text; the memory's keys are made once."""
  once = ("cross_attention/key", "cross_attention/value", "encoder")
  read = 0
  for path, x in jax.tree_util.tree_leaves_with_path(params):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    read += 0 if any(part in name for part in once) else x.nbytes * sizes.NEW
  return read


def _shapes(batch: dict[str, np.ndarray]) -> dict[str, jax.ShapeDtypeStruct]:
  return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()}


def main() -> None:
  kind, dtype, folder, *more = sys.argv[1:]
  memory.keep()
  imported = hf.read(folder)
  model = imported.model.clone(dtype=dtype)
  with np.load(Path(folder) / INPUTS) as inputs:
    given = model, imported.params, dict(inputs)
  if kind == "bert":
    bert(*given)
  elif kind == "clip":
    clip(*given)
  elif kind == "classify":
    classify(*given, more[0])
  else:
    translate(*given, int(more[0]))


if __name__ == "__main__":
  main()
