"""BERT (Devlin et al., 2018) and RoBERTa (Liu et al., 2019)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from research.errors import UserError
from research.hf.config import THEIRS, Config
from research.hf.family import Family, only
from research.hf.table import REPEATED, Row, Table, linear, norm
from research.models import BERT

LAYER = "encoder.layer.*"
ENCODER = (
  Row("embeddings.word_embeddings.weight", "VD", "embed/table", "VD"),
  Row("embeddings.position_embeddings.weight", "LD", "embed_positions/table", "LD"),
  Row("embeddings.token_type_embeddings.weight", "TD", "embed_segments/table", "TD"),
  *norm("embeddings.LayerNorm", "embed_norm"),
  *linear(f"{LAYER}.attention.self.query", "blocks/*/attention/query", "D", "HK"),
  *linear(f"{LAYER}.attention.self.key", "blocks/*/attention/key", "D", "HK"),
  *linear(f"{LAYER}.attention.self.value", "blocks/*/attention/value", "D", "HK"),
  *linear(f"{LAYER}.attention.output.dense", "blocks/*/attention/out", "HK", "D"),
  *norm(f"{LAYER}.attention.output.LayerNorm", "blocks/*/attention_norm"),
  *linear(f"{LAYER}.intermediate.dense", "blocks/*/mlp/up", "D", "F"),
  *linear(f"{LAYER}.output.dense", "blocks/*/mlp/down", "F", "D"),
  *norm(f"{LAYER}.output.LayerNorm", "blocks/*/mlp_norm"),
)
POOLER = linear("pooler.dense", "pooler", "D", "E", "pooler")
NEXT_SENTENCE = linear("cls.seq_relationship", "next_sentence_head", "E", "C", "next_sentence")


def _words(dense: str, norm_of: str, bias: str, decoder: str, *, tied: bool) -> tuple[Row, ...]:
  """The head that predicts words; its table and its bias have two names each."""
  again = REPEATED if tied else "words"
  return (
    *linear(dense, "word_head/dense", "D", "E", "words"),
    *norm(norm_of, "word_head/norm", "E", "words"),
    Row(bias, "V", "word_head/bias", "V", "words"),
    Row(f"{decoder}.bias", "V", "word_head/bias", "V", again),
    Row(f"{decoder}.weight", "VD", "embed/table" if tied else "unembed/table", "VD", again),
  )


def _read(config: Config) -> dict[str, Any]:
  config.only("positions here are learned, one for each place", position_embedding_type="absolute")
  config.only("this is an encoder alone", is_decoder=False, add_cross_attention=False)
  return {
    "vocab_size": config.size("vocab_size"),
    "width": config.size("hidden_size"),
    "depth": config.size("num_hidden_layers"),
    "heads": config.size("num_attention_heads"),
    "hidden": config.size("intermediate_size"),
    "segment_types": config.size("type_vocab_size", 2),
    "activation": config.activation("hidden_act", "gelu"),
    "tied": config.truth("tie_word_embeddings", True),
    "dropout": config.share("hidden_dropout_prob", 0.1),
    "epsilon": config.number("layer_norm_eps", 1e-12),
  }


def read_bert(config: Config, names: Collection[str]) -> BERT:
  del names
  return BERT(max_length=config.size("max_position_embeddings", 512), **_read(config))


def read_roberta(config: Config, names: Collection[str]) -> BERT:
  del names
  config.only("the head that predicts words has no other in transformers", hidden_act="gelu")
  rows, offset = config.size("max_position_embeddings", 512), _padding(config) + 1
  if rows <= offset:
    raise UserError(
      f"{config.where}: max_position_embeddings={rows} leaves no position for a token."
    )
  return BERT(max_length=rows - offset, position_offset=offset, **_read(config))


def _padding(config: Config) -> int:
  """The token of padding, behind whose number positions begin (fairseq)."""
  padding = config.values.get("pad_token_id", 1)
  if type(padding) is not int or padding < 0:
    raise UserError(
      f"{config.where}: pad_token_id={padding!r} is no token; positions count from it."
    )
  return padding


def _write(model: BERT) -> dict[str, Any]:
  return {
    "vocab_size": model.vocab_size,
    "hidden_size": model.width,
    "num_hidden_layers": model.depth,
    "num_attention_heads": model.heads,
    "intermediate_size": model.hidden or 4 * model.width,
    "type_vocab_size": model.segment_types,
    "hidden_act": THEIRS[model.activation],
    "tie_word_embeddings": model.tied,
    "hidden_dropout_prob": model.dropout,
    "attention_probs_dropout_prob": model.dropout,
    "layer_norm_eps": model.epsilon,
    "max_position_embeddings": model.max_length + (model.position_offset or 0),
  }


def write_bert(model: BERT) -> dict[str, Any]:
  only(model, "BERT", position_offset=None)
  return _write(model)


def write_roberta(model: BERT) -> dict[str, Any]:
  only(model, "RoBERTa", activation="gelu_exact")
  if not model.position_offset or model.position_offset < 1:
    raise UserError(
      f"model.position_offset={model.position_offset} cannot be exported: RoBERTa's positions "
      "begin behind the number of its padding; it must be at least 1."
    )
  return {**_write(model), "pad_token_id": model.position_offset - 1}


def _sizes(model: BERT) -> dict[str, int]:
  return {
    "V": model.vocab_size,
    "L": model.max_length + (model.position_offset or 0),
    "T": model.segment_types,
    "D": model.width,
    "E": model.width,
    "H": model.heads,
    "K": model.width // model.heads,
    "F": model.hidden or 4 * model.width,
    "C": 2,
  }


def bert_tables(model: BERT) -> list[Table]:
  head = "cls.predictions"
  names = (f"{head}.transform.dense", f"{head}.transform.LayerNorm", f"{head}.bias")
  words = _words(*names, f"{head}.decoder", tied=model.tied)
  sizes = _sizes(model)
  return [
    Table((*ENCODER, *POOLER), sizes, model.depth, theirs="bert."),
    Table((*words, *NEXT_SENTENCE), sizes),
  ]


def roberta_tables(model: BERT) -> list[Table]:
  names = ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias", "lm_head.decoder")
  sizes = _sizes(model)
  return [
    Table((*ENCODER, *POOLER), sizes, model.depth, theirs="roberta."),
    Table(_words(*names, tied=model.tied), sizes),
  ]


BERT_FAMILY = Family(
  model_type="bert",
  read=read_bert,
  write=write_bert,
  tables=bert_tables,
  architectures={
    "BertModel": frozenset({"pooler"}),
    # It leaves a pooler alone that lies beside its head, as in many checkpoints; so does RoBERTa's.
    "BertForMaskedLM": frozenset({"pooler", "words"}),
    "BertForNextSentencePrediction": frozenset({"pooler", "next_sentence"}),
    "BertForPreTraining": frozenset({"pooler", "words", "next_sentence"}),
  },
  prefix="bert.",
  bare="BertModel",
  buffers=(r"(bert\.)?embeddings\.position_ids",),
  renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
)
ROBERTA_FAMILY = Family(
  model_type="roberta",
  read=read_roberta,
  write=write_roberta,
  tables=roberta_tables,
  architectures={
    "RobertaModel": frozenset({"pooler"}),
    "RobertaForMaskedLM": frozenset({"pooler", "words"}),
  },
  prefix="roberta.",
  bare="RobertaModel",
  buffers=(r"(roberta\.)?embeddings\.position_ids",),
)
