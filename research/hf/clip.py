"""CLIP (Radford et al., 2021) and SigLIP (Zhai et al., 2023): two towers of one kind of layer."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from research.errors import UserError
from research.hf.config import THEIRS, Config
from research.hf.family import Family, only
from research.hf.table import Row, Table, linear, norm
from research.models import CLIP

LAYER = "encoder.layers.*"
LAYERS = (
  *norm(f"{LAYER}.layer_norm1", "blocks/*/attention_norm"),
  *linear(f"{LAYER}.self_attn.q_proj", "blocks/*/attention/query", "D", "HK"),
  *linear(f"{LAYER}.self_attn.k_proj", "blocks/*/attention/key", "D", "HK"),
  *linear(f"{LAYER}.self_attn.v_proj", "blocks/*/attention/value", "D", "HK"),
  *linear(f"{LAYER}.self_attn.out_proj", "blocks/*/attention/out", "HK", "D"),
  *norm(f"{LAYER}.layer_norm2", "blocks/*/mlp_norm"),
  *linear(f"{LAYER}.mlp.fc1", "blocks/*/mlp/up", "D", "F"),
  *linear(f"{LAYER}.mlp.fc2", "blocks/*/mlp/down", "F", "D"),
)
TEXT = (
  Row("embeddings.token_embedding.weight", "VD", "embed/table", "VD"),
  Row("embeddings.position_embedding.weight", "LD", "embed_positions/table", "LD"),
  *norm("final_layer_norm", "final_norm"),
  *LAYERS,
)
# The kernel of the patches is a convolution there and a product here.
PATCHES = Row("embeddings.patch_embedding.weight", "DCYX", "embed/kernel", "(YXC)D")
IMAGE = (
  PATCHES,
  Row("embeddings.position_embedding.weight", "LD", "embed_positions/table", "LD"),
  *norm("post_layernorm", "final_norm"),
  *LAYERS,
)
CLIP_IMAGE = (
  Row("embeddings.class_embedding", "D", "class", "D"),
  *norm("pre_layrnorm", "norm"),
  *IMAGE,
)
SIGLIP_IMAGE = (
  Row("embeddings.patch_embedding.bias", "D", "embed/bias", "D"),
  *IMAGE,
  Row("head.probe", "11D", "query", "D"),
  Row("head.attention.in_proj_weight", "(SHK)D", "attention/query|key|value/kernel", "DHK"),
  Row("head.attention.in_proj_bias", "(SHK)", "attention/query|key|value/bias", "HK"),
  *linear("head.attention.out_proj", "attention/out", "HK", "D"),
  *norm("head.layernorm", "mlp_norm"),
  *linear("head.mlp.fc1", "mlp/up", "D", "F"),
  *linear("head.mlp.fc2", "mlp/down", "F", "D"),
)
CLIP_JOINT = (
  Row("visual_projection.weight", "ED", "project_image/kernel", "DE"),
  Row("logit_scale", "", "log_scale", ""),
)
CLIP_TEXT_PROJECTION = (Row("text_projection.weight", "ED", "project_text/kernel", "DE"),)
SIGLIP_JOINT = (
  Row("logit_scale", "1", "log_scale", ""),
  Row("logit_bias", "1", "score_bias", ""),
)
SIGLIP_TEXT_PROJECTION = linear("text_model.head", "project_text", "D", "E")
BUFFERS = (r"(text|vision)_model\.embeddings\.position_ids",)


def _read(
  config: Config, text: Config, image: Config, *, activation: str, epsilon: float
) -> dict[str, Any]:
  image.only("a picture has three colours here", num_channels=3)
  values = {}
  for ours, side in {"text": text, "image": image}.items():
    base = 512 if ours == "text" and config.values.get("model_type") == "clip" else 768
    values[f"{ours}_width"] = side.size("hidden_size", base)
    values[f"{ours}_depth"] = side.size("num_hidden_layers", 12)
    values[f"{ours}_heads"] = side.size("num_attention_heads", 8 if base == 512 else 12)
    values[f"{ours}_hidden"] = side.size("intermediate_size", 4 * base)
  sides = [
    (side.activation("hidden_act", activation), side.number("layer_norm_eps", epsilon))
    for side in (text, image)
  ]
  if sides[0] != sides[1]:
    raise UserError(
      f"{config.where}: both towers have one activation and one layer_norm_eps here, not "
      f"{sides[0]} for text and {sides[1]} for images."
    )
  return {**values, "activation": sides[0][0], "epsilon": sides[0][1]}


def read_clip(config: Config, names: Collection[str]) -> CLIP:
  del names
  text, image = (_tower(config, name) for name in ("text_config", "vision_config"))
  return CLIP(
    vocab_size=text.size("vocab_size", 49_408),
    max_length=text.size("max_position_embeddings", 77),
    image_size=image.size("image_size", 224),
    patch=image.size("patch_size", 32),
    embedding=config.size("projection_dim", 512),
    **_read(config, text, image, activation="quick_gelu", epsilon=1e-5),
  )


def _tower(config: Config, name: str) -> Config:
  """The config of a tower; its older name stands above the newer one in transformers."""
  older = f"{name}_dict"
  return config.part(name if config.values.get(older) is None else older)


def read_siglip(config: Config, names: Collection[str]) -> CLIP:
  del names
  text, image = config.part("text_config"), config.part("vision_config")
  image.only("pictures are pooled by attention", vision_use_head=True)
  values = _read(config, text, image, activation="gelu_pytorch_tanh", epsilon=1e-6)
  return CLIP(
    vocab_size=text.size("vocab_size", 32_000),
    max_length=text.size("max_position_embeddings", 64),
    image_size=image.size("image_size", 224),
    patch=image.size("patch_size", 16),
    embedding=text.size("projection_size", values["text_width"]),
    pool="attention",
    first_norm=False,
    causal=False,
    text_pool="last",
    projections="text",
    mean=(0.5, 0.5, 0.5),
    deviation=(0.5, 0.5, 0.5),
    largest_scale=None,
    bias=-10.0,
    **values,
  )


def _write(model: CLIP) -> dict[str, dict[str, Any]]:
  parts = {}
  for ours, theirs in {"text": "text_config", "image": "vision_config"}.items():
    width = getattr(model, f"{ours}_width")
    parts[theirs] = {
      "hidden_size": width,
      "num_hidden_layers": getattr(model, f"{ours}_depth"),
      "num_attention_heads": getattr(model, f"{ours}_heads"),
      "intermediate_size": getattr(model, f"{ours}_hidden") or 4 * width,
      "hidden_act": THEIRS[model.activation],
      "layer_norm_eps": model.epsilon,
    }
  text = {"vocab_size": model.vocab_size, "max_position_embeddings": model.max_length}
  parts["text_config"] |= text
  parts["vision_config"] |= {"image_size": model.image_size, "patch_size": model.patch}
  return parts


def write_clip(model: CLIP) -> dict[str, Any]:
  only(model, "CLIP", pool="class", first_norm=True, causal=True, text_pool="end", bias=None)
  only(model, "CLIP", projections="both")
  return {**_write(model), "projection_dim": model.embedding}


def write_siglip(model: CLIP) -> dict[str, Any]:
  only(model, "SigLIP", pool="attention", first_norm=False, causal=False, text_pool="last")
  if model.bias is None:
    raise UserError("model.bias=None cannot be exported: SigLIP has one; give model.bias=-10.0.")
  parts = _write(model)
  parts["text_config"]["projection_size"] = model.embedding
  return parts


def _sizes(model: CLIP, side: str) -> dict[str, int]:
  width, heads = getattr(model, f"{side}_width"), getattr(model, f"{side}_heads")
  sizes = {
    "E": model.embedding,
    "D": width,
    "H": heads,
    "K": width // heads,
    "F": getattr(model, f"{side}_hidden") or 4 * width,
  }
  if side == "text":
    return {**sizes, "V": model.vocab_size, "L": model.max_length}
  patches = (model.image_size // model.patch) ** 2 + (model.pool == "class")
  return {**sizes, "L": patches, "C": 3, "Y": model.patch, "X": model.patch}


def _tables(model: CLIP, image_rows, joint, text_projection) -> list[Table]:
  text, image = (_sizes(model, side) for side in ("text", "image"))
  return [
    Table(TEXT, text, model.text_depth, theirs="text_model.", ours="text/"),
    Table(image_rows, image, model.image_depth, theirs="vision_model.", ours="image/"),
    Table(joint, image),
    Table(text_projection, text),
  ]


def unbounded(model: CLIP, params: Mapping[str, Any]) -> CLIP:
  """The model of a checkpoint: without a bound where its scale is beyond, as theirs has none."""
  return model.clone(largest_scale=None) if params["log_scale"] > _limit(model) else model


def bounded(model: CLIP, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The parameters with the scale that the model uses: theirs has no bound."""
  scale = {name: np.minimum(x, _limit(model)) for name, x in params.items() if name == "log_scale"}
  return {**params, **scale}


def _limit(model: CLIP) -> np.float32:
  """Of the logarithm of the scale, as the model rounds it."""
  return np.float32(np.inf if model.largest_scale is None else math.log(model.largest_scale))


def colours(about: Mapping[str, Any] | None) -> dict[str, Any]:
  """The fields mean and deviation, of a preprocessor_config.json where there is one."""
  names = {"mean": "image_mean", "deviation": "image_std"}
  found = {ours: (about or {}).get(theirs) for ours, theirs in names.items()}
  return {
    ours: tuple(map(float, values))
    for ours, values in found.items()
    if isinstance(values, list) and all(type(x) in (int, float) for x in values)
  }


CLIP_FAMILY = Family(
  model_type="clip",
  read=read_clip,
  write=write_clip,
  tables=lambda model: _tables(model, CLIP_IMAGE, CLIP_JOINT, CLIP_TEXT_PROJECTION),
  architectures={"CLIPModel": frozenset()},
  buffers=BUFFERS,
)
SIGLIP_FAMILY = Family(
  model_type="siglip",
  read=read_siglip,
  write=write_siglip,
  tables=lambda model: _tables(model, SIGLIP_IMAGE, SIGLIP_JOINT, SIGLIP_TEXT_PROJECTION),
  architectures={"SiglipModel": frozenset()},
  buffers=BUFFERS,
)
