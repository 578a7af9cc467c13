"""What both sides of a comparison read: a folder with Hugging Face's tensors, and with inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict

from research import hf
from research.bench import sizes
from research.bench.sizes import Size, Towers
from research.data import masking
from research.models import BERT, CLIP, Transformer
from research.objectives import InfoNCE, MaskedToken

INPUTS = "inputs.npz"


def write(kind: str, size: Size | Towers, folder: Path) -> None:
  """Makes weights and inputs for a kind of benchmark up, the same ones every time."""
  model, params, inputs = WRITTEN[kind](size)
  hf.write(folder, model, flatten_dict(jax.device_get(nn.meta.unbox(params)), sep="/"))
  np.savez(folder / INPUTS, **inputs)


def bert(size: Size) -> tuple[BERT, Any, dict[str, np.ndarray]]:
  """A BERT with the head that predicts words, and rows of which 15 % are hidden."""
  length, batch_size = sizes.TRAIN[size.name]
  model = _bert(size, length)
  random = np.random.RandomState(0)
  shape = (batch_size, length)
  tokens_BL = random.randint(4, size.vocab_size, shape).astype(np.int32)
  hidden_BL, places_BT, targets_BT = masking.mask(
    tokens_BL,
    np.tile(np.arange(length) > 0, (batch_size, 1)),  # the first is [CLS]
    np.full(batch_size, round(sizes.MASKED * length)),
    random.uniform(size=(batch_size, 3, length)),
    room=masking.room(length, sizes.MASKED),
    stands_for=sizes.MASK,
    vocab_size=size.vocab_size,
  )
  labels_BL = np.full(shape, -100, np.int64)  # what transformers' loss leaves out
  rows, columns = np.nonzero(places_BT)
  labels_BL[rows, places_BT[rows, columns]] = targets_BT[rows, columns]
  inputs = {"tokens": hidden_BL, "places": places_BT, "labels": labels_BL}
  inputs["targets"] = targets_BT.astype(np.int32)
  batch = {**inputs, "segments": np.ones(shape, np.int32)}
  params = jax.jit(nn.init(MaskedToken(), model))(jax.random.key(0), batch)["params"]
  return model, params, inputs


def classify(size: Size) -> tuple[BERT, Any, dict[str, np.ndarray]]:
  """A BERT with its pooler; a head for labels, texts of one length, and of uneven ones."""
  longest = max(length for length, _ in sizes.CLASSIFY.values())
  model, random = _bert(size, longest), np.random.RandomState(0)
  inputs = {
    "kernel": random.normal(0, 0.3, (size.width, sizes.LABELS)).astype(np.float32),
    "bias": random.normal(0, 0.3, sizes.LABELS).astype(np.float32),
  }
  for name, (length, texts) in sizes.CLASSIFY.items():
    inputs[name] = random.randint(4, size.vocab_size, (texts, length)).astype(np.int32)
    # Of sentences: a median of 20 tokens, a tenth of more than 50.
    of_sentences = np.clip(random.lognormal(3.0, 0.7, texts).astype(np.int32), 4, length)
    inputs[f"{name}_lengths"] = of_sentences if name == sizes.UNEVEN else np.full(texts, length)
  params = jax.jit(lambda key: model.init(key, jnp.zeros((1, 8), jnp.int32), method=_pooled))(
    jax.random.key(0)
  )["params"]
  return model, params, inputs


def translate(size: Size) -> tuple[Transformer, Any, dict[str, np.ndarray]]:
  """A T5, and sources."""
  model = Transformer(
    vocab_size=size.vocab_size,
    max_length=512,
    width=size.width,
    depth=size.depth,
    heads=size.heads,
    norm="rms",
    norm_position="pre",
    positions="relative",
    bias=False,
    scale_embedding=False,
    scale_scores=False,
    scale_states=True,
    epsilon=1e-6,
  )
  tokens = jnp.zeros((1, 8), jnp.int32)
  params = jax.jit(model.init)(jax.random.key(0), tokens, tokens)["params"]
  params = jax.tree_util.tree_map_with_path(_varied, nn.meta.unbox(params))
  sources = np.random.RandomState(0).randint(
    4, size.vocab_size, (max(sizes.SIDE_BY_SIDE), sizes.SOURCE)
  )
  return model, params, {"sources": sources.astype(np.int32)}


def clip(size: Towers) -> tuple[CLIP, Any, dict[str, np.ndarray]]:
  """A CLIP, and pairs whose captions are of any length; nothing is yet near to anything."""
  (image_depth, image_width, image_heads), (text_depth, text_width, text_heads) = (
    size.image,
    size.text,
  )
  model = CLIP(
    vocab_size=size.vocab_size,
    max_length=size.length,
    image_size=size.image_size,
    patch=size.patch,
    embedding=image_width,
    image_width=image_width,
    image_depth=image_depth,
    image_heads=image_heads,
    text_width=text_width,
    text_depth=text_depth,
    text_heads=text_heads,
    temperature=0.02,  # as of one that has learned: the loss then shows what is computed
  )
  random, end = np.random.RandomState(0), size.vocab_size - 1
  ends_B = random.randint(4, size.length, size.pairs).astype(np.int32)
  captions_BL = random.randint(1, end, (size.pairs, size.length)).astype(np.int32)
  places_L = np.arange(size.length)
  captions_BL[places_L == ends_B[:, None]] = end  # the largest token, as CLIP's code looks for it
  captions_BL[places_L > ends_B[:, None]] = 0
  shape = (size.pairs, size.image_size, size.image_size, 3)
  inputs = {
    "image": random.randint(0, 256, shape).astype(np.uint8),
    "caption": captions_BL,
    "caption_end": ends_B,
  }
  batch = {**inputs, "weights": np.ones(size.pairs, np.float32)}
  params = jax.jit(nn.init(InfoNCE(), model))(jax.random.key(0), batch)["params"]
  return model, params, inputs


def _varied(path: Any, x: jax.Array) -> jax.Array:
  """Weights of a T5 that look closely: as they begin, it would write one word for ever."""
  name = jax.tree_util.keystr(path, simple=True, separator="/")
  factors = {"query/kernel": 2.0, "attention/out/kernel": 3.0, "embed/table": 0.03}
  return x * next((factor for end, factor in factors.items() if name.endswith(end)), 1.0)


def _bert(size: Size, length: int) -> BERT:
  return BERT(
    vocab_size=size.vocab_size,
    max_length=length,
    width=size.width,
    depth=size.depth,
    heads=size.heads,
  )


def _pooled(model: BERT, tokens_BL: jax.Array) -> jax.Array:
  return model.pool(model.encode(tokens_BL))


WRITTEN = {"bert": bert, "classify": classify, "translate": translate, "clip": clip}
