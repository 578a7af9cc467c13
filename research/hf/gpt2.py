"""GPT-2 (Radford et al., 2019) and GPT-1 (2018), whose kernels are stored (in, out)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from research.hf.config import THEIRS, Config
from research.hf.family import Family, only
from research.hf.table import REPEATED, Row, Table, norm
from research.models import GPT

LAYER = (
  Row("h.*.attn.c_attn.weight", "D(SHK)", "blocks/*/attention/query|key|value/kernel", "DHK"),
  Row("h.*.attn.c_attn.bias", "(SHK)", "blocks/*/attention/query|key|value/bias", "HK"),
  Row("h.*.attn.c_proj.weight", "(HK)D", "blocks/*/attention/out/kernel", "HKD"),
  Row("h.*.attn.c_proj.bias", "D", "blocks/*/attention/out/bias", "D"),
  Row("h.*.mlp.c_fc.weight", "DF", "blocks/*/mlp/up/kernel", "DF"),
  Row("h.*.mlp.c_fc.bias", "F", "blocks/*/mlp/up/bias", "F"),
  Row("h.*.mlp.c_proj.weight", "FD", "blocks/*/mlp/down/kernel", "FD"),
  Row("h.*.mlp.c_proj.bias", "D", "blocks/*/mlp/down/bias", "D"),
  *norm("h.*.ln_1", "blocks/*/attention_norm"),
  *norm("h.*.ln_2", "blocks/*/mlp_norm"),
)
GPT2_ROWS = (
  Row("wte.weight", "VD", "embed/table", "VD"),
  Row("wpe.weight", "LD", "embed_positions/table", "LD"),
  *norm("ln_f", "final_norm"),
  *LAYER,
)
GPT1_ROWS = (
  Row("tokens_embed.weight", "VD", "embed/table", "VD"),
  Row("positions_embed.weight", "LD", "embed_positions/table", "LD"),
  *LAYER,
)
TIED = (Row("lm_head.weight", "VD", "embed/table", "VD", REPEATED),)
UNTIED = (Row("lm_head.weight", "VD", "unembed/table", "VD"),)
BUFFERS = (r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias",)


def read_gpt2(config: Config, names: Collection[str]) -> GPT:
  del names
  config.only("attention here is GPT-2's own", scale_attn_weights=True, add_cross_attention=False)
  config.only("no layer here scales by its number", scale_attn_by_inverse_layer_idx=False)
  return GPT(
    activation=config.activation("activation_function", "gelu_new"),
    hidden=config.size("n_inner", 4 * config.size("n_embd", 768)),
    **_shared(config),
  )


def read_gpt1(config: Config, names: Collection[str]) -> GPT:
  del names
  activation = config.activation("afn", "gelu")
  return GPT(
    # What its config calls "gelu" is the one by tanh.
    activation="gelu" if activation == "gelu_exact" else activation,
    norm_position="post",
    hidden=4 * config.size("n_embd", 768),
    **_shared(config),
  )


def _shared(config: Config) -> dict[str, Any]:
  return {
    "vocab_size": config.size("vocab_size"),
    "max_length": config.size("n_positions", 1024),
    "width": config.size("n_embd", 768),
    "depth": config.size("n_layer", 12),
    "heads": config.size("n_head", 12),
    "tied": config.truth("tie_word_embeddings", True),
    "dropout": config.share("resid_pdrop", 0.1),
    "epsilon": config.number("layer_norm_epsilon", 1e-5),
  }


def write_gpt2(model: GPT) -> dict[str, Any]:
  only(model, "GPT-2", norm_position="pre")
  only(model, "GPT-2", activation=("gelu", "gelu_exact", "relu", "swish", "quick_gelu"))
  return {
    "activation_function": THEIRS[model.activation],
    "n_inner": model.hidden or 4 * model.width,
    **_written(model),
  }


def write_gpt1(model: GPT) -> dict[str, Any]:
  only(model, "GPT-1", norm_position="post")
  only(model, "GPT-1", activation=("gelu", "relu", "swish"), hidden=(None, 4 * model.width))
  return {"afn": model.activation, **_written(model)}


def _written(model: GPT) -> dict[str, Any]:
  only(model, "GPT-2", norm="layer", positions="learned", kv_heads=(None, model.heads))
  only(model, "GPT-2", key_size=(None, model.width // model.heads), qk_norm=False, windows=((),))
  only(model, "GPT-2", bias=True, qkv_bias=(None, True), out_bias=(None, True))
  return {
    "vocab_size": model.vocab_size,
    "n_positions": model.max_length,
    "n_embd": model.width,
    "n_layer": model.depth,
    "n_head": model.heads,
    "tie_word_embeddings": model.tied,
    "embd_pdrop": model.dropout,
    "attn_pdrop": model.dropout,
    "resid_pdrop": model.dropout,
    "layer_norm_epsilon": model.epsilon,
  }


def _tables(model: GPT) -> list[Table]:
  sizes = {
    "V": model.vocab_size,
    "L": model.max_length,
    "D": model.width,
    "H": model.heads,
    "K": model.width // model.heads,
    "F": model.hidden or 4 * model.width,
  }
  rows = GPT2_ROWS if model.norm_position == "pre" else GPT1_ROWS
  return [
    Table(rows, sizes, model.depth, theirs="transformer."),
    Table(TIED if model.tied else UNTIED, sizes),
  ]


GPT2 = Family(
  model_type="gpt2",
  read=read_gpt2,
  write=write_gpt2,
  tables=_tables,
  architectures={"GPT2LMHeadModel": frozenset(), "GPT2Model": frozenset()},
  prefix="transformer.",
  bare="GPT2Model",
  buffers=BUFFERS,
)
GPT1 = Family(
  model_type="openai-gpt",
  read=read_gpt1,
  write=write_gpt1,
  tables=_tables,
  architectures={"OpenAIGPTLMHeadModel": frozenset(), "OpenAIGPTModel": frozenset()},
  prefix="transformer.",
  bare="OpenAIGPTModel",
  buffers=BUFFERS,
)
