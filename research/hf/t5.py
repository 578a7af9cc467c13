"""T5 (Raffel et al., 2019), T5 1.1 (Shazeer, 2020) and mT5 (Xue et al., 2020)."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

from research.errors import UserError
from research.hf.config import ACTIVATIONS, THEIRS, Config
from research.hf.family import Family, only
from research.hf.table import REPEATED, Row, Table
from research.models import Transformer

GATED = {"gelu": "geglu", "gelu_new": "geglu", "silu": "swiglu"}  # gated-gelu is the one by tanh
THEIR_GATED = {"geglu": "gated-gelu", "swiglu": "gated-silu"}
LENGTH = 512  # of texts in training; nothing in the model depends on it


def _attention(theirs: str, ours: str) -> tuple[Row, ...]:
  names = {"q": "query", "k": "key", "v": "value"}
  return (
    *(
      Row(f"{theirs}.{q}.weight", "(HK)D", f"{ours}/{name}/kernel", "DHK")
      for q, name in names.items()
    ),
    Row(f"{theirs}.o.weight", "D(HK)", f"{ours}/out/kernel", "HKD"),
  )


def _mlp(layer: str, gated: bool) -> tuple[Row, ...]:
  dense = f"block.*.layer.{layer}.DenseReluDense"
  ways = {"wi_0": "gate", "wi_1": "up"} if gated else {"wi": "up"}
  return (
    *(Row(f"{dense}.{wi}.weight", "FD", f"*/mlp/{ours}/kernel", "DF") for wi, ours in ways.items()),
    Row(f"{dense}.wo.weight", "DF", "*/mlp/down/kernel", "FD"),
    Row(f"block.*.layer.{layer}.layer_norm.weight", "D", "*/mlp_norm/scale", "D"),
  )


SELF = (
  *_attention("block.*.layer.0.SelfAttention", "*/attention"),
  Row("block.*.layer.0.layer_norm.weight", "D", "*/attention_norm/scale", "D"),
)
CROSS = (
  *_attention("block.*.layer.1.EncDecAttention", "*/cross_attention"),
  Row("block.*.layer.1.layer_norm.weight", "D", "*/cross_attention_norm/scale", "D"),
)
BIAS = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
WHOLE = (
  Row("shared.weight", "VD", "embed/table", "VD"),
  Row("encoder.embed_tokens.weight", "VD", "embed/table", "VD", REPEATED),
  Row("decoder.embed_tokens.weight", "VD", "embed/table", "VD", REPEATED),
  Row("encoder.final_layer_norm.weight", "D", "encoder_norm/scale", "D"),
  Row("decoder.final_layer_norm.weight", "D", "decoder_norm/scale", "D"),
  Row(f"encoder.{BIAS}", "UH", "encoder_bias/table", "UH"),
  Row(f"decoder.{BIAS}", "UH", "decoder_bias/table", "UH"),
)
TIED = (Row("lm_head.weight", "VD", "embed/table", "VD", REPEATED),)
UNTIED = (Row("lm_head.weight", "VD", "unembed/table", "VD"),)


def _read(kind: str, config: Config, names: Collection[str]) -> Transformer:
  depth, dropout = config.size("num_layers"), config.share("dropout_rate", 0.1)
  # Newer configs say that all are tied, and leave it to the tensors that some are not.
  scaled = config.truth("scale_decoder_outputs", config.truth("tie_word_embeddings", True))
  return Transformer(
    vocab_size=config.size("vocab_size"),
    max_length=config.size("n_positions", LENGTH),
    width=config.size("d_model"),
    depth=depth,
    decoder_depth=config.size("num_decoder_layers", depth),
    heads=config.size("num_heads"),
    key_size=config.size("d_kv"),
    hidden=config.size("d_ff"),
    norm="rms",
    norm_position="pre",
    activation=_activation(config, "gated-gelu" if kind == "mt5" else "relu"),
    positions="relative",
    buckets=config.size("relative_attention_num_buckets", 32),
    farthest=config.size("relative_attention_max_distance", 128),
    tied="lm_head.weight" not in names,
    bias=False,
    scale_embedding=False,
    scale_scores=False,
    scale_states=kind == "t5" and scaled,
    dropout=dropout,
    attention_dropout=dropout,
    epsilon=config.number("layer_norm_epsilon", 1e-6),
  )


def _activation(config: Config, default: str) -> str:
  found = config.values.get("feed_forward_proj") or default
  gate, _, name = str(found).rpartition("-")
  known = GATED if gate == "gated" else ACTIVATIONS
  if gate not in ("", "gated") or name not in known:
    raise UserError(
      f"{config.where}: feed_forward_proj={found!r} is not known here; 'relu', 'gated-gelu' and "
      "'gated-silu' are."
    )
  return known[name]


def _write(kind: str, model: Transformer) -> dict[str, Any]:
  what = f"a model of type {kind!r}"
  only(model, what, norm="rms", norm_position="pre", positions="relative", bias=False)
  only(model, what, scale_embedding=False, scale_scores=False, word_bias=False, embed_norm=False)
  only(model, what, source_vocab_size=None, activation=(*THEIR_GATED, "relu", "swish"))
  only(model, what, attention_dropout=model.dropout)
  if kind == "mt5" or not model.tied:
    only(model, what, scale_states=False)
  gated = THEIR_GATED.get(model.activation)
  return {
    "vocab_size": model.vocab_size,
    "n_positions": model.max_length,
    "d_model": model.width,
    "num_layers": model.depth,
    "num_decoder_layers": model.decoder_depth or model.depth,
    "num_heads": model.heads,
    "d_kv": model.key_size or model.width // model.heads,
    "d_ff": model.hidden or 4 * model.width,
    "feed_forward_proj": gated or THEIRS[model.activation],
    "relative_attention_num_buckets": model.buckets,
    "relative_attention_max_distance": model.farthest,
    "tie_word_embeddings": model.tied,
    "scale_decoder_outputs": model.scale_states,
    "dropout_rate": model.dropout,
    "layer_norm_epsilon": model.epsilon,
    "is_encoder_decoder": True,
  }


def _tables(model: Transformer) -> list[Table]:
  sizes = {
    "V": model.vocab_size,
    "D": model.width,
    "H": model.heads,
    "K": model.key_size or model.width // model.heads,
    "F": model.hidden or 4 * model.width,
    "U": model.buckets,
  }
  gated, decoder_depth = model.activation in THEIR_GATED, model.decoder_depth or model.depth
  return [
    Table((*WHOLE, *(TIED if model.tied else UNTIED)), sizes),
    Table((*SELF, *_mlp("1", gated)), sizes, model.depth, theirs="encoder.", ours="encoder/"),
    Table(
      (*SELF, *CROSS, *_mlp("2", gated)), sizes, decoder_depth, theirs="decoder.", ours="decoder/"
    ),
  ]


def _family(kind: str, name: str) -> Family:
  return Family(
    model_type=kind,
    read=functools.partial(_read, kind),
    write=functools.partial(_write, kind),
    tables=_tables,
    architectures={
      f"{name}ForConditionalGeneration": frozenset(),
      f"{name}WithLMHeadModel": frozenset(),
      f"{name}Model": frozenset(),
    },
    buffers=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
  )


T5, MT5 = _family("t5", "T5"), _family("mt5", "MT5")
