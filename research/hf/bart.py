"""BART (Lewis et al., 2019) and Marian (Junczys-Dowmunt et al., 2018), which share their names."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from research.errors import UserError
from research.hf.config import THEIRS, Config
from research.hf.family import Family, only
from research.hf.table import REPEATED, Row, Table, linear, norm
from research.models import Transformer

OFFSET = 2  # of the first position in BART's tables


def _attention(theirs: str, ours: str) -> tuple[Row, ...]:
  return (
    *linear(f"layers.*.{theirs}.q_proj", f"*/{ours}/query", "D", "HK"),
    *linear(f"layers.*.{theirs}.k_proj", f"*/{ours}/key", "D", "HK"),
    *linear(f"layers.*.{theirs}.v_proj", f"*/{ours}/value", "D", "HK"),
    *linear(f"layers.*.{theirs}.out_proj", f"*/{ours}/out", "HK", "D"),
    *norm(f"layers.*.{theirs}_layer_norm", f"*/{ours}_norm"),
  )


ENCODER = (
  *_attention("self_attn", "attention"),
  *linear("layers.*.fc1", "*/mlp/up", "D", "F"),
  *linear("layers.*.fc2", "*/mlp/down", "F", "D"),
  *norm("layers.*.final_layer_norm", "*/mlp_norm"),
)
DECODER = (*_attention("encoder_attn", "cross_attention"), *ENCODER)
POSITIONS = (
  Row("model.encoder.embed_positions.weight", "LD", "source_positions/table", "LD"),
  Row("model.decoder.embed_positions.weight", "LD", "target_positions/table", "LD"),
  *norm("model.encoder.layernorm_embedding", "source_norm"),
  *norm("model.decoder.layernorm_embedding", "target_norm"),
)
SHARED = (
  Row("model.shared.weight", "VD", "embed/table", "VD"),
  Row("model.encoder.embed_tokens.weight", "VD", "embed/table", "VD", REPEATED),
  Row("model.decoder.embed_tokens.weight", "VD", "embed/table", "VD", REPEATED),
)
SEPARATE = (
  Row("model.encoder.embed_tokens.weight", "WD", "embed_source/table", "WD"),
  Row("model.decoder.embed_tokens.weight", "VD", "embed/table", "VD"),
)
TIED = (Row("lm_head.weight", "VD", "embed/table", "VD", REPEATED),)
WORD_BIAS = (Row("final_logits_bias", "1V", "word_biases", "V"),)


def _read(config: Config, names: Collection[str]) -> dict[str, Any]:
  config.only("the words' table also predicts", tie_word_embeddings=True)
  config.only("a stack has one norm a sublayer", normalize_before=False, add_final_layernorm=False)
  sides = [
    (config.size(f"{side}_attention_heads"), config.size(f"{side}_ffn_dim"))
    for side in ("encoder", "decoder")
  ]
  if sides[0] != sides[1]:
    raise UserError(
      f"{config.where}: encoder and decoder have as many heads and an MLP as wide here, not "
      f"{sides[0]} and {sides[1]}."
    )
  return {
    "max_length": config.size("max_position_embeddings", 1024),
    "width": config.size("d_model"),
    "depth": config.size("encoder_layers"),
    "decoder_depth": config.size("decoder_layers"),
    "heads": sides[0][0],
    "hidden": sides[0][1],
    "activation": config.activation("activation_function", "gelu"),
    "word_bias": "final_logits_bias" in names,
    "scale_embedding": config.truth("scale_embedding", False),
    "dropout": config.share("dropout", 0.1),
    "attention_dropout": config.share("attention_dropout"),
  }


def read_bart(config: Config, names: Collection[str]) -> Transformer:
  config.only("embeddings have a norm", normalize_embedding=True)
  return Transformer(
    vocab_size=config.size("vocab_size"),
    positions="learned",
    position_offset=OFFSET,
    embed_norm=True,
    **_read(config, names),
  )


def read_marian(config: Config, names: Collection[str]) -> Transformer:
  source = config.size("vocab_size")
  target = config.size("decoder_vocab_size", source)
  shared = config.truth("share_encoder_decoder_embeddings", True)
  if shared and source != target:
    raise UserError(
      f"{config.where}: vocab_size={source} and decoder_vocab_size={target} cannot share a table."
    )
  return Transformer(
    vocab_size=target,
    source_vocab_size=None if shared else source,
    **_read(config, names),
  )


def _write(model: Transformer, what: str) -> dict[str, Any]:
  only(model, what, norm="layer", norm_position="post", bias=True, scale_scores=True)
  only(model, what, scale_states=False, key_size=(None, model.width // model.heads), epsilon=1e-5)
  only(model, what, activation=tuple(THEIRS), tied=True)
  config: dict[str, Any] = {}
  for side in ("encoder", "decoder"):
    config[f"{side}_attention_heads"] = model.heads
    config[f"{side}_ffn_dim"] = model.hidden or 4 * model.width
  return config | {
    "vocab_size": model.vocab_size,
    "max_position_embeddings": model.max_length,
    "d_model": model.width,
    "encoder_layers": model.depth,
    "decoder_layers": model.decoder_depth or model.depth,
    "activation_function": THEIRS[model.activation],
    "tie_word_embeddings": True,
    "scale_embedding": model.scale_embedding,
    "dropout": model.dropout,
    "attention_dropout": model.attention_dropout,
    "is_encoder_decoder": True,
  }


def write_bart(model: Transformer) -> dict[str, Any]:
  only(model, "BART", positions="learned", position_offset=OFFSET, embed_norm=True)
  only(model, "BART", source_vocab_size=None)
  return _write(model, "BART")


def write_marian(model: Transformer) -> dict[str, Any]:
  only(model, "Marian", positions="sinusoidal", embed_norm=False, position_offset=0)
  shared = model.source_vocab_size is None
  return _write(model, "Marian") | {
    "vocab_size": model.vocab_size if shared else model.source_vocab_size,
    "decoder_vocab_size": model.vocab_size,
    "share_encoder_decoder_embeddings": shared,
  }


def _tables(model: Transformer) -> list[Table]:
  sizes = {
    "V": model.vocab_size,
    "W": model.source_vocab_size or 0,
    "L": model.max_length + model.position_offset,
    "D": model.width,
    "H": model.heads,
    "K": model.width // model.heads,
    "F": model.hidden or 4 * model.width,
  }
  rows = (
    *(SHARED if model.source_vocab_size is None else SEPARATE),
    *TIED,
    *(WORD_BIAS if model.word_bias else ()),
    *(POSITIONS if model.positions == "learned" else ()),
  )
  names = {
    "encoder": (ENCODER, model.depth),
    "decoder": (DECODER, model.decoder_depth or model.depth),
  }
  return [
    Table(rows, sizes),
    *(
      Table(of_side, sizes, depth, theirs=f"model.{side}.", ours=f"{side}/")
      for side, (of_side, depth) in names.items()
    ),
  ]


BART = Family(
  model_type="bart",
  read=read_bart,
  write=write_bart,
  tables=_tables,
  architectures={"BartForConditionalGeneration": frozenset(), "BartModel": frozenset()},
  prefix="model.",
  bare="BartModel",
)
MARIAN = Family(
  model_type="marian",
  read=read_marian,
  write=write_marian,
  tables=_tables,
  architectures={"MarianMTModel": frozenset(), "MarianModel": frozenset()},
  prefix="model.",
  bare="MarianModel",
  # Sines, which are computed.
  buffers=(r"(model\.)?(encoder|decoder)\.embed_positions\.weight",),
)
