"""Decoders after LLaMA (Touvron et al., 2023): LLaMA 1 to 3, Mistral, Qwen 2 and Qwen 3.

Mistral (Jiang et al., 2023) sees through a window; Qwen 2 (Yang et al., 2024) has biases of
queries, keys and values; Qwen 3 (Yang et al., 2025) has norms of queries and keys instead.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

from research.errors import UserError
from research.hf import rotary
from research.hf.config import THEIRS, Config
from research.hf.family import Family, only
from research.hf.table import REPEATED, Row, Table, linear
from research.models import GPT
from research.models.gpt import hidden

GATED = {"swish": "swiglu", "gelu": "geglu", "gelu_exact": "geglu_exact"}
UNGATED = {gated: plain for plain, gated in GATED.items()}
LAYER, OURS = "model.layers.*", "blocks/*"
ROWS = (
  Row("model.embed_tokens.weight", "VD", "embed/table", "VD"),
  Row("model.norm.weight", "D", "final_norm/scale", "D"),
  Row(f"{LAYER}.input_layernorm.weight", "D", f"{OURS}/attention_norm/scale", "D"),
  Row(f"{LAYER}.post_attention_layernorm.weight", "D", f"{OURS}/mlp_norm/scale", "D"),
)
QKV = (
  *linear(f"{LAYER}.self_attn.q_proj", f"{OURS}/attention/query", "D", "HK"),
  *linear(f"{LAYER}.self_attn.k_proj", f"{OURS}/attention/key", "D", "GK"),
  *linear(f"{LAYER}.self_attn.v_proj", f"{OURS}/attention/value", "D", "GK"),
)
OUT = linear(f"{LAYER}.self_attn.o_proj", f"{OURS}/attention/out", "HK", "D")
MLP = (
  *linear(f"{LAYER}.mlp.gate_proj", f"{OURS}/mlp/gate", "D", "F"),
  *linear(f"{LAYER}.mlp.up_proj", f"{OURS}/mlp/up", "D", "F"),
  *linear(f"{LAYER}.mlp.down_proj", f"{OURS}/mlp/down", "F", "D"),
)
QK_NORMS = (
  Row(f"{LAYER}.self_attn.q_norm.weight", "K", f"{OURS}/attention/query_norm/scale", "K"),
  Row(f"{LAYER}.self_attn.k_norm.weight", "K", f"{OURS}/attention/key_norm/scale", "K"),
)
TIED = (Row("lm_head.weight", "VD", "embed/table", "VD", REPEATED),)
UNTIED = (Row("lm_head.weight", "VD", "unembed/table", "VD"),)


def _read(kind: str, config: Config, names: Collection[str]) -> GPT:
  del names
  width, heads = config.size("hidden_size"), config.size("num_attention_heads")
  activation = config.activation("hidden_act", "silu")
  if activation not in GATED:
    raise UserError(
      f"{config.where}: hidden_act={config.values['hidden_act']!r} gates no MLP here; 'silu', "
      "'gelu' and 'gelu_new' do."
    )
  attention_bias = kind in ("llama", "qwen3") and config.truth("attention_bias", False)
  base, scaling = rotary.read(config)
  return GPT(
    vocab_size=config.size("vocab_size"),
    max_length=config.size("max_position_embeddings", rotary.LENGTH),
    width=width,
    depth=config.size("num_hidden_layers"),
    heads=heads,
    kv_heads=config.size("num_key_value_heads", 8 if kind == "mistral" else heads),
    key_size=config.size("head_dim", 128 if kind == "qwen3" else width // heads),
    hidden=config.size("intermediate_size"),
    norm="rms",
    positions="rotary",
    rotary_base=base,
    rotary_scaling=scaling,
    activation=GATED[activation],
    tied=config.truth("tie_word_embeddings", False),
    bias=kind == "llama" and config.truth("mlp_bias", False),
    qkv_bias=kind == "qwen2" or attention_bias,
    out_bias=attention_bias,
    qk_norm=kind == "qwen3",
    epsilon=config.number("rms_norm_eps", 1e-6),
    windows=_windows(kind, config),
  )


def _windows(kind: str, config: Config) -> tuple[int | None, ...]:
  """What each layer in turn sees; () where all see all."""
  # Null is no window; what is absent is the default of transformers.
  window = config.size("sliding_window", None) if "sliding_window" in config.values else 4096
  if kind == "mistral":
    return () if window is None else (window,)
  if kind == "llama" or window is None or not config.truth("use_sliding_window", False):
    return ()
  depth, first = config.size("num_hidden_layers"), config.size("max_window_layers", 28, least=0)
  kinds = config.names("layer_types")
  if kinds is None:
    kinds = ["sliding_attention" if i >= first else "full_attention" for i in range(depth)]
  if len(kinds) != depth or not {*kinds} <= {"sliding_attention", "full_attention"}:
    raise UserError(
      f"{config.where}: layer_types={str(kinds)[:80]} must name 'full_attention' or "
      f"'sliding_attention' for each of the {depth} layers."
    )
  windows = tuple(window if kind == "sliding_attention" else None for kind in kinds)
  period = next(
    n for n in range(1, depth + 1) if all(w == windows[i % n] for i, w in enumerate(windows))
  )
  return () if {*windows} == {None} else windows[:period]


def _write(kind: str, model: GPT) -> dict[str, Any]:
  what = f"a model of type {kind!r}"
  _check(kind, what, model)
  turns = model.windows or (None,)
  windows = [turns[i % len(turns)] for i in range(model.depth)]
  largest = max((window for window in windows if window), default=None)
  config = {
    "vocab_size": model.vocab_size,
    "max_position_embeddings": model.max_length,
    "hidden_size": model.width,
    "num_hidden_layers": model.depth,
    "num_attention_heads": model.heads,
    "num_key_value_heads": model.kv_heads or model.heads,
    "head_dim": _key_size(model),
    "intermediate_size": hidden(model),
    "hidden_act": THEIRS[UNGATED[model.activation]],
    "tie_word_embeddings": model.tied,
    "rms_norm_eps": model.epsilon,
    **rotary.write(model.rotary_base, model.rotary_scaling),
  }
  if kind in ("llama", "qwen3"):
    config["attention_bias"] = _biases(model)[0]
  if kind == "llama":
    config["mlp_bias"] = model.bias
  else:
    config["sliding_window"] = largest
  if kind in ("qwen2", "qwen3"):
    kinds = ["sliding_attention" if window else "full_attention" for window in windows]
    config |= {"use_sliding_window": largest is not None, "layer_types": kinds}
  if kind == "qwen2":
    del config["head_dim"]
  return config


def _check(kind: str, what: str, model: GPT) -> None:
  only(model, what, norm="rms", norm_position="pre", positions="rotary")
  only(model, what, activation=tuple(UNGATED), qk_norm=kind == "qwen3")
  qkv, _ = _biases(model)
  only(model, what, out_bias=(qkv if kind in ("llama", "qwen3") else False, *_unsaid(model, qkv)))
  if kind != "llama":
    only(model, what, bias=False)
  if kind in ("mistral", "qwen2"):
    only(model, what, qkv_bias=(kind == "qwen2", *_unsaid(model, kind == "qwen2")))
  if kind == "qwen2":
    only(model, what, key_size=(None, model.width // model.heads))
  if kind == "llama" or len({*model.windows} - {None}) > 1:
    only(model, what, windows=((),))
  if kind == "mistral" and len({*model.windows}) > 1:
    only(model, what, windows=((),))


def _biases(model: GPT) -> tuple[bool, bool]:
  """Whether queries, keys and values have biases, and whether the last projection has one."""
  given = (model.qkv_bias, model.out_bias)
  return tuple(model.bias if bias is None else bias for bias in given)


def _unsaid(model: GPT, wanted: bool) -> tuple[None, ...]:
  """None is possible, too, where it stands for what is wanted."""
  return (None,) if model.bias == wanted else ()


def _key_size(model: GPT) -> int:
  return model.key_size or model.width // model.heads


def _tables(model: GPT) -> list[Table]:
  sizes = {
    "V": model.vocab_size,
    "D": model.width,
    "H": model.heads,
    "G": model.kv_heads or model.heads,
    "K": _key_size(model),
    "F": hidden(model),
  }
  qkv_bias, out_bias = _biases(model)
  with_bias = [(QKV, qkv_bias), (OUT, out_bias), (MLP, model.bias)]
  projections = [
    row for rows, bias in with_bias for row in rows if bias or row.theirs.endswith(".weight")
  ]
  norms = QK_NORMS if model.qk_norm else ()
  head = TIED if model.tied else UNTIED
  return [Table((*ROWS, *projections, *norms, *head), sizes, model.depth)]


def _family(kind: str, name: str) -> Family:
  return Family(
    model_type=kind,
    read=functools.partial(_read, kind),
    write=functools.partial(_write, kind),
    tables=_tables,
    architectures={f"{name}ForCausalLM": frozenset(), f"{name}Model": frozenset()},
    prefix="model.",
    bare=f"{name}Model",
    buffers=(r"(model\.)?layers\.\d+\.self_attn\.rotary_emb\.inv_freq",),
  )


LLAMA, MISTRAL = _family("llama", "Llama"), _family("mistral", "Mistral")
QWEN2, QWEN3 = _family("qwen2", "Qwen2"), _family("qwen3", "Qwen3")
