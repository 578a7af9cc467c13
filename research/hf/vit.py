"""The vision transformer (Dosovitskiy et al., 2020), bare or with a classifier."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from research.errors import UserError
from research.hf.config import THEIRS, Config
from research.hf.family import Family, only
from research.hf.table import Row, Table, linear, norm
from research.models import ViT

LAYER = "encoder.layer.*"
ROWS = (
  Row("embeddings.cls_token", "11D", "class", "D"),
  Row("embeddings.position_embeddings", "1LD", "embed_positions/table", "LD"),
  Row("embeddings.patch_embeddings.projection.weight", "DCYX", "embed/kernel", "(YXC)D"),
  Row("embeddings.patch_embeddings.projection.bias", "D", "embed/bias", "D"),
  *norm(f"{LAYER}.layernorm_before", "blocks/*/attention_norm"),
  *linear(f"{LAYER}.attention.attention.query", "blocks/*/attention/query", "D", "HK"),
  *linear(f"{LAYER}.attention.attention.key", "blocks/*/attention/key", "D", "HK"),
  *linear(f"{LAYER}.attention.attention.value", "blocks/*/attention/value", "D", "HK"),
  *linear(f"{LAYER}.attention.output.dense", "blocks/*/attention/out", "HK", "D"),
  *norm(f"{LAYER}.layernorm_after", "blocks/*/mlp_norm"),
  *linear(f"{LAYER}.intermediate.dense", "blocks/*/mlp/up", "D", "F"),
  *linear(f"{LAYER}.output.dense", "blocks/*/mlp/down", "F", "D"),
  *norm("layernorm", "final_norm"),
)
POOLER = linear("pooler.dense", "represent", "D", "E", "pooler")
CLASSIFIER = linear("classifier", "classify", "D", "A", "classes")


def _read(config: Config, names: Collection[str]) -> ViT:
  config.only("a picture has three colours here", num_channels=3)
  config.only("all projections of attention have a bias", qkv_bias=True)
  config.only("the layer of the pooler ends in tanh", pooler_act="tanh")
  pooler, classifier = _has(names, "pooler."), _has(names, "classifier.")
  if pooler and classifier:
    raise UserError(
      "this ViT has a classifier and a pooler, which transformers leaves out beside a classifier; "
      "take the tensors pooler.* out of it."
    )
  labels = config.part("id2label").values
  width = config.size("hidden_size", 768)
  return ViT(
    image_size=config.size("image_size", 224),
    patch=config.size("patch_size", 16),
    width=width,
    depth=config.size("num_hidden_layers", 12),
    heads=config.size("num_attention_heads", 12),
    hidden=config.size("intermediate_size", 4 * width),
    representation=config.size("pooler_output_size", width) if pooler else None,
    # Without names there are two classes: what transformers takes for the default.
    classes=len(labels or (0, 1)) if classifier else None,
    activation=config.activation("hidden_act", "gelu"),
    epsilon=config.number("layer_norm_eps", 1e-12),
  )


def _has(names: Collection[str], part: str) -> bool:
  return any(name.removeprefix("vit.").startswith(part) for name in names)


def _write(model: ViT) -> dict[str, Any]:
  only(model, "ViT", pool="class", first_norm=False)
  if model.classes is not None:
    only(model, "ViT with a classifier", representation=None)
  config = {
    "image_size": model.image_size,
    "patch_size": model.patch,
    "hidden_size": model.width,
    "num_hidden_layers": model.depth,
    "num_attention_heads": model.heads,
    "intermediate_size": model.hidden or 4 * model.width,
    "hidden_act": THEIRS[model.activation],
    "layer_norm_eps": model.epsilon,
  }
  if model.representation is not None:
    config["pooler_output_size"] = model.representation
  if model.classes is not None:
    names = {str(i): f"LABEL_{i}" for i in range(model.classes)}
    config |= {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}
  return config


def _tables(model: ViT) -> list[Table]:
  sizes = {
    "L": (model.image_size // model.patch) ** 2 + 1,
    "C": len(model.mean),
    "Y": model.patch,
    "X": model.patch,
    "D": model.width,
    "H": model.heads,
    "K": model.width // model.heads,
    "F": model.hidden or 4 * model.width,
    "E": model.representation or 0,
    "A": model.classes or 0,
  }
  pooler = () if model.representation is None else POOLER
  classifier = () if model.classes is None else CLASSIFIER
  return [
    Table((*ROWS, *pooler), sizes, model.depth, theirs="vit."),
    Table(classifier, sizes),
  ]


VIT_FAMILY = Family(
  model_type="vit",
  read=_read,
  write=_write,
  tables=_tables,
  architectures={
    "ViTModel": frozenset({"pooler"}),
    "ViTForImageClassification": frozenset({"classes"}),
  },
  prefix="vit.",
  bare="ViTModel",
)
