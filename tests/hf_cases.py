"""Configurations in which Hugging Face's models and ours are compared, their inputs and weights.

Weights are a function of a tensor's name, inputs of the case's: only what is predicted has to be
stored. It needs NumPy alone, so that interpreters with and without this project can use it.
"""

import dataclasses
import zlib
from typing import Any

import numpy as np

V = 41  # words; the last three are special
BEGIN, END, PAD = 38, 39, 40
BEAM = 3


@dataclasses.dataclass(frozen=True)
class Case:
  """One model and what it is asked.

  Attributes:
    name: of the case.
    kind: the model_type.
    architecture: the class of transformers.
    config: what differs from `BASES` of its kind.
    length: of the inputs.
    padding: "left", "right" or "" of rows of different length.
    greedy, beam: tokens to write, always the likeliest, or by a search of width `BEAM`; 0 where
      nothing is written so.
    extra: names and shapes of tensors that the class would not save, though it reads them.
  """

  name: str
  kind: str
  architecture: str
  config: dict[str, Any]
  length: int = 9
  padding: str = "right"
  greedy: int = 0
  beam: int = 0
  extra: tuple[tuple[str, tuple[int, ...]], ...] = ()

  @property
  def values(self) -> dict[str, Any]:
    """The whole config."""
    base = BASES[self.kind]
    nested = {
      name: {**base[name], **self.config.get(name, {})} for name in base if name.endswith("_config")
    }
    return {**base, **self.config, **nested}

  @property
  def inputs(self) -> dict[str, np.ndarray]:
    """Rows of tokens and who of them is there, captions with an end, targets, pictures."""
    random = np.random.RandomState(zlib.crc32(self.name.encode()))
    lengths = np.array([self.length, max(1, self.length // 2), max(1, self.length - 2)])
    if not self.padding:
      lengths[:] = self.length
    places = np.arange(self.length)
    if self.padding == "left":
      places = places[::-1]
    mask = (places < lengths[:, None]).astype(np.int32)
    # None is padding by its number, which RoBERTa looks at.
    padding = self.values.get("pad_token_id", PAD)
    tokens = np.where(mask, random.randint(5, BEGIN, mask.shape), padding).astype(np.int32)
    caption = np.where(mask, tokens, 0)
    caption[np.arange(3), lengths - 1] = END
    values = self.values
    vision = values.get("vision_config", values)
    size = vision.get("image_size", 4)
    kinds = values.get("type_vocab_size", 1)
    return {
      "tokens": tokens,
      "mask": mask,
      "types": (random.randint(0, kinds, mask.shape) * mask).astype(np.int32),
      "caption": caption,
      "ends": (lengths - 1).astype(np.int32),
      "targets": random.randint(0, BEGIN, (3, 7)).astype(np.int32),
      "image": random.randint(0, 256, (2, size, size, 3)).astype(np.uint8),
    }


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """The values of a tensor: every one matters, also where training would begin at zero or one."""
  name = name.replace("decoder.bias", "bias")  # of BERT's words: one bias under two names
  values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
  scale = len(shape) == 1 and name.endswith(("weight", "scale"))
  return np.asarray(1 + 0.2 * values if scale else 0.3 * values, np.float32)


TOKENS = {"bos_token_id": BEGIN, "eos_token_id": END, "pad_token_id": PAD}
GPT = {"vocab_size": V, "n_positions": 40, "n_embd": 12, "n_layer": 1, "n_head": 3, **TOKENS}
DECODER = {
  "vocab_size": V,
  "hidden_size": 12,
  "intermediate_size": 20,
  "num_hidden_layers": 1,
  "num_attention_heads": 3,
  "num_key_value_heads": 3,
  "max_position_embeddings": 40,
  **TOKENS,
}
ENCODER = {
  "vocab_size": V,
  "hidden_size": 12,
  "intermediate_size": 20,
  "num_hidden_layers": 1,
  "num_attention_heads": 3,
  "max_position_embeddings": 24,
  **TOKENS,
}
T5 = {"vocab_size": V, "d_model": 12, "d_kv": 4, "d_ff": 20, "num_layers": 1, "num_heads": 3}
T5 |= {"decoder_start_token_id": PAD, "pad_token_id": PAD, "eos_token_id": END}
SEQ2SEQ = {
  "vocab_size": V,
  "d_model": 12,
  "encoder_layers": 1,
  "decoder_layers": 1,
  "encoder_attention_heads": 3,
  "decoder_attention_heads": 3,
  "encoder_ffn_dim": 20,
  "decoder_ffn_dim": 20,
  "max_position_embeddings": 40,
  "decoder_start_token_id": PAD,
  "forced_eos_token_id": None,
  **TOKENS,
}
TOWER = {
  "hidden_size": 12,
  "intermediate_size": 20,
  "num_hidden_layers": 1,
  "num_attention_heads": 3,
}
CAPTIONS = {**TOWER, "vocab_size": V, "max_position_embeddings": 9, **TOKENS}
PICTURES = {**TOWER, "image_size": 8, "patch_size": 4}
BASES: dict[str, dict[str, Any]] = {
  "gpt2": GPT,
  "openai-gpt": GPT,
  **{kind: DECODER for kind in ("llama", "mistral", "qwen2")},
  "qwen3": {**DECODER, "head_dim": 4},
  "bert": {**ENCODER, "pad_token_id": 0},
  "roberta": {**ENCODER, "max_position_embeddings": 26, "pad_token_id": 1, "type_vocab_size": 1},
  "t5": T5,
  "mt5": T5,
  "bart": SEQ2SEQ,
  "marian": {**SEQ2SEQ, "scale_embedding": True, "activation_function": "swish"},
  "clip": {"text_config": CAPTIONS, "vision_config": PICTURES, "projection_dim": 10},
  "siglip": {"text_config": CAPTIONS, "vision_config": PICTURES},
  "vit": PICTURES,
}
LLAMA3 = {
  "rope_type": "llama3",
  "rope_theta": 1000.0,
  "factor": 4.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 3.0,
  "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0}
YARN |= {"original_max_position_embeddings": 16}
LINEAR = {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}
SLIDING = {"use_sliding_window": True, "sliding_window": 4}
BOTH = ("text_config", "vision_config")


def _both(**values: Any) -> dict[str, Any]:
  return {name: values for name in BOTH}


def _cases(kind: str, architecture: str, **variants: Any) -> list[Case]:
  return [
    Case(f"{kind}_{name}", kind, *(given if isinstance(given, tuple) else (architecture, given)))
    for name, given in variants.items()
  ]


def _asked(cases: list[Case], **about: dict[str, Any]) -> list[Case]:
  """The cases, of which some, by the end of their names, are asked in another way."""
  return [dataclasses.replace(case, **about.get(case.name.split("_", 1)[1], {})) for case in cases]


LEFT, WHOLE = {"padding": "left"}, {"padding": ""}
HEAD = (("lm_head.weight", (V, 12)),)
CASES = [
  *_asked(
    _cases(
      "gpt2",
      "GPT2LMHeadModel",
      plain={"n_layer": 3},
      untied={"tie_word_embeddings": False, "n_head": 4},
      exact={"activation_function": "gelu", "n_inner": 17},
      relu={"activation_function": "relu", "n_head": 1, "n_layer": 1},
      long={"n_embd": 10, "n_head": 5, "layer_norm_epsilon": 1e-3},
      bare=("GPT2Model", {"n_head": 2}),
    ),
    plain={"greedy": 12, "padding": "left"},
    untied=LEFT,
    long={"length": 40, "padding": ""},
    relu={"length": 1, "padding": ""},
  ),
  *_asked(
    _cases(
      "openai-gpt",
      "OpenAIGPTLMHeadModel",
      plain={"n_layer": 2},
      untied={"tie_word_embeddings": False, "n_head": 4},
      relu={"afn": "relu", "n_head": 1},
      swish={"afn": "swish", "n_head": 6},
      long={"n_embd": 10, "n_head": 5, "n_layer": 1},
      bare=("OpenAIGPTModel", {"n_head": 2, "layer_norm_epsilon": 1e-3}),
    ),
    long={"length": 40, "padding": ""},
    swish={"length": 1, "padding": ""},
  ),
  *_asked(
    _cases(
      "llama",
      "LlamaForCausalLM",
      plain={"hidden_size": 18, "rms_norm_eps": 1e-5, "num_hidden_layers": 3},
      tied={"tie_word_embeddings": True, "num_attention_heads": 6, "num_key_value_heads": 2},
      gqa_1={"num_attention_heads": 6, "num_key_value_heads": 1, "attention_bias": True},
      gqa_4={"hidden_size": 24, "num_attention_heads": 12, "num_key_value_heads": 3},
      llama3={"rope_parameters": LLAMA3, "head_dim": 6, "mlp_bias": True}
      | {"max_position_embeddings": 60},
      linear={"rope_parameters": LINEAR, "hidden_act": "gelu"},
      yarn={"rope_parameters": YARN, "head_dim": 8, "hidden_act": "gelu_new"},
      bare=("LlamaModel", {"tie_word_embeddings": True}),
    ),
    tied=LEFT,
    gqa_1=LEFT,
    llama3={"length": 40, "padding": "left", "greedy": 12},
    linear={"length": 40, "padding": ""},
    yarn={"length": 40, "padding": ""},
    gqa_4={"length": 1, "padding": ""},
  ),
  *_asked(
    _cases(
      "mistral",
      "MistralForCausalLM",
      window={"sliding_window": 4, "num_hidden_layers": 2},
      all={"sliding_window": None, "num_key_value_heads": 1},
      tied={"sliding_window": 2, "tie_word_embeddings": True, "num_attention_heads": 6},
      gqa_4={"sliding_window": 5, "num_attention_heads": 12, "head_dim": 4},
      gelu={"sliding_window": 1, "hidden_act": "gelu", "head_dim": 2},
      scaled={"sliding_window": 16, "rope_parameters": LLAMA3},
    ),
    window={"greedy": 12, "padding": "left"},
    tied=LEFT,
    scaled={"length": 40, "padding": ""},
  ),
  *_asked(
    _cases(
      "qwen2",
      "Qwen2ForCausalLM",
      plain={"num_hidden_layers": 2},
      tied={"tie_word_embeddings": True, "num_attention_heads": 6, "num_key_value_heads": 1},
      gqa_4={"hidden_size": 24, "num_attention_heads": 12},
      sliding={**SLIDING, "max_window_layers": 1, "num_hidden_layers": 2},
      all_sliding={**SLIDING, "max_window_layers": 0, "rms_norm_eps": 1e-3},
      yarn={"rope_parameters": YARN, "hidden_act": "gelu_new"},
    ),
    plain={"greedy": 12, "padding": "left"},
    tied=LEFT,
    sliding=LEFT,
    yarn={"length": 40, "padding": ""},
  ),
  *_asked(
    _cases(
      "qwen3",
      "Qwen3ForCausalLM",
      plain={"head_dim": 6, "num_hidden_layers": 2},
      tied={"tie_word_embeddings": True, "num_attention_heads": 5, "num_key_value_heads": 5},
      gqa_1={"num_key_value_heads": 1, "attention_bias": True},
      gqa_4={"num_attention_heads": 4, "num_key_value_heads": 1, "hidden_size": 10},
      sliding={**SLIDING, "layer_types": ["sliding_attention", "full_attention"]}
      | {"num_hidden_layers": 2},
      yarn={"rope_parameters": YARN, "rms_norm_eps": 1e-3, "head_dim": 8},
    ),
    tied=LEFT,
    gqa_4={"greedy": 12, "padding": "left"},
    yarn={"length": 40, "padding": ""},
  ),
  *_asked(
    _cases(
      "bert",
      "BertForPreTraining",
      plain={"num_hidden_layers": 2},
      words=("BertForMaskedLM", {"hidden_act": "gelu_new", "num_attention_heads": 4}),
      untied=("BertForMaskedLM", {"tie_word_embeddings": False, "num_attention_heads": 1}),
      follows=("BertForNextSentencePrediction", {"hidden_act": "relu", "type_vocab_size": 3}),
      bare=("BertModel", {"layer_norm_eps": 1e-3, "num_attention_heads": 6}),
      long={"hidden_size": 10, "num_attention_heads": 5, "num_hidden_layers": 1},
    ),
    words=LEFT,
    long={"length": 24, "padding": ""},
    bare={"length": 1, "padding": ""},
  ),
  *_asked(
    _cases(
      "roberta",
      "RobertaForMaskedLM",
      plain={"num_hidden_layers": 2},
      left={"num_attention_heads": 4},
      untied={"tie_word_embeddings": False, "type_vocab_size": 2},
      offset={"pad_token_id": 4, "num_attention_heads": 6},
      bare=("RobertaModel", {"layer_norm_eps": 1e-3, "num_attention_heads": 1}),
      long={"hidden_size": 10, "num_attention_heads": 5, "num_hidden_layers": 1},
    ),
    left=LEFT,
    offset=LEFT,
    long={"length": 24, "padding": ""},
  ),
  *_asked(
    _cases(
      "t5",
      "T5ForConditionalGeneration",
      plain={"num_layers": 2},
      gated={"feed_forward_proj": "gated-gelu", "scale_decoder_outputs": False, "d_kv": 5},
      silu={
        "feed_forward_proj": "gated-silu",
        "num_heads": 4,
        "num_decoder_layers": 1,
        "num_layers": 2,
      },
      buckets={"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20},
      wide={"d_model": 10, "num_heads": 5, "num_decoder_layers": 2},
      epsilon={"layer_norm_epsilon": 1e-3, "num_heads": 1},
      untied={"feed_forward_proj": "gated-gelu", "scale_decoder_outputs": False},
    ),
    plain={"greedy": 12, "length": 11},
    untied={"extra": HEAD},
    gated=LEFT,
    silu=LEFT,
    buckets={"length": 40},
    epsilon=WHOLE,
  ),
  *_asked(
    _cases(
      "mt5",
      "MT5ForConditionalGeneration",
      plain={},
      relu={"feed_forward_proj": "relu", "d_kv": 3},
      heads={"num_heads": 7, "num_decoder_layers": 1, "num_layers": 2},
      buckets={"relative_attention_num_buckets": 12, "relative_attention_max_distance": 16},
      wide={"d_model": 14, "num_decoder_layers": 2},
      epsilon={"layer_norm_epsilon": 1e-3, "feed_forward_proj": "gated-silu"},
    ),
    plain={"beam": 12},
    relu={**LEFT, "extra": HEAD},
    buckets={"length": 40},
    wide=WHOLE,
  ),
  *_asked(
    _cases(
      "bart",
      "BartForConditionalGeneration",
      plain={},
      scaled={"scale_embedding": True, "activation_function": "relu"},
      deep={"encoder_layers": 1, "decoder_layers": 3, "decoder_attention_heads": 4}
      | {"encoder_attention_heads": 4},
      bare=("BartModel", {"activation_function": "gelu_new"}),
      heads={"d_model": 10, "encoder_attention_heads": 5, "decoder_attention_heads": 5},
      long={"encoder_ffn_dim": 7, "decoder_ffn_dim": 7},
    ),
    plain={"beam": 12},
    scaled=WHOLE,
    long={"length": 40, "padding": ""},
  ),
  *_asked(
    _cases(
      "marian",
      "MarianMTModel",
      plain={},
      unscaled={"scale_embedding": False, "activation_function": "relu"},
      separate={"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 43},
      deep={"encoder_layers": 3, "decoder_layers": 1},
      gelu={"activation_function": "gelu", "d_model": 10}
      | {"encoder_attention_heads": 5, "decoder_attention_heads": 5},
      long={"encoder_ffn_dim": 7, "decoder_ffn_dim": 7},
    ),
    deep={"greedy": 12},
    unscaled=WHOLE,
    long={"length": 40, "padding": ""},
  ),
  *_asked(
    _cases(
      "clip",
      "CLIPModel",
      plain={},
      gelu=_both(hidden_act="gelu", layer_norm_eps=1e-3),
      relu=_both(hidden_act="relu") | {"projection_dim": 3},
      towers={"text_config": {"hidden_size": 10, "num_attention_heads": 5}}
      | {"vision_config": {"num_hidden_layers": 1, "num_attention_heads": 1}},
      patches={"vision_config": {"image_size": 15, "patch_size": 5, "num_attention_heads": 4}},
      narrow={"vision_config": {"patch_size": 8, "intermediate_size": 7, "hidden_size": 9}},
    ),
    relu=WHOLE,
  ),
  *_asked(
    _cases(
      "siglip",
      "SiglipModel",
      plain={},
      gelu=_both(hidden_act="gelu", layer_norm_eps=1e-3),
      towers={"text_config": {"hidden_size": 10, "num_attention_heads": 5, "projection_size": 12}}
      | {"vision_config": {"num_hidden_layers": 1, "num_attention_heads": 1}},
      patches={"vision_config": {"image_size": 15, "patch_size": 5, "num_attention_heads": 4}},
      narrow={"vision_config": {"patch_size": 8, "intermediate_size": 7}},
      relu=_both(hidden_act="relu", num_hidden_layers=1),
    ),
    relu=WHOLE,
  ),
  *_cases(
    "vit",
    "ViTModel",
    plain={},
    pooled={"pooler_output_size": 5, "num_attention_heads": 4, "hidden_act": "gelu_new"},
    classes=("ViTForImageClassification", {"id2label": {str(i): f"c{i}" for i in range(5)}}),
    two=("ViTForImageClassification", {"hidden_act": "relu", "num_attention_heads": 1}),
    patches={"image_size": 15, "patch_size": 5, "layer_norm_eps": 1e-3},
    narrow={"patch_size": 8, "intermediate_size": 7, "num_hidden_layers": 1},
  ),
]
