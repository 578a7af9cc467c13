"""GPT-1, GPT-2 and Llama predict what Hugging Face's do, from the weights of make_goldens.py."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.models import GPT

GOLDENS = pathlib.Path(__file__).parent / "golden"
MODEL = GPT(vocab_size=40, max_length=16, width=16, depth=2, heads=4)
MODERN = dict(norm="rms", positions="rotary", activation="swiglu", bias=False, tied=False)


def gpt_from_hugging_face(weights, names):
  """GPT-1 and GPT-2 share their names within a layer; kernels are stored (in, out)."""

  def layer(i):
    prefix = f"transformer.h.{i}."
    qkv = zip(*(np.split(weights[f"{prefix}attn.c_attn.{w}"], 3, -1) for w in ("weight", "bias")))
    attention = {
      name: {"kernel": kernel.reshape(16, 4, 4), "bias": bias.reshape(4, 4)}
      for name, (kernel, bias) in zip(("query", "key", "value"), qkv)
    }
    attention["out"] = {
      "kernel": weights[f"{prefix}attn.c_proj.weight"].reshape(4, 4, 16),
      "bias": weights[f"{prefix}attn.c_proj.bias"],
    }
    mlp = {
      name: {"kernel": weights[f"{prefix}{at}.weight"], "bias": weights[f"{prefix}{at}.bias"]}
      for name, at in {"up": "mlp.c_fc", "down": "mlp.c_proj"}.items()
    }
    norms = {
      name: {"scale": weights[f"{prefix}{at}.weight"], "bias": weights[f"{prefix}{at}.bias"]}
      for name, at in {"attention_norm": "ln_1", "mlp_norm": "ln_2"}.items()
    }
    return {"attention": attention, "mlp": mlp, **norms}

  params = {name: {"table": weights[at]} for name, at in names.items()}
  if "transformer.ln_f.weight" in weights:
    scale, bias = weights["transformer.ln_f.weight"], weights["transformer.ln_f.bias"]
    params["final_norm"] = {"scale": scale, "bias": bias}
  return {**params, "blocks": {str(i): layer(i) for i in range(2)}}


def llama_from_hugging_face(weights):
  """Kernels are stored (out, in)."""

  def layer(i):
    def kernel(name, *shape):
      return {"kernel": weights[f"model.layers.{i}.{name}.weight"].T.reshape(shape)}

    def norm(name):
      return {"scale": weights[f"model.layers.{i}.{name}.weight"]}

    return {
      "attention": {
        "query": kernel("self_attn.q_proj", 16, 4, 4),
        "key": kernel("self_attn.k_proj", 16, 2, 4),
        "value": kernel("self_attn.v_proj", 16, 2, 4),
        "out": kernel("self_attn.o_proj", 4, 4, 16),
      },
      "mlp": {
        "gate": kernel("mlp.gate_proj", 16, 24),
        "up": kernel("mlp.up_proj", 16, 24),
        "down": kernel("mlp.down_proj", 24, 16),
      },
      "attention_norm": norm("input_layernorm"),
      "mlp_norm": norm("post_attention_layernorm"),
    }

  return {
    "embed": {"table": weights["model.embed_tokens.weight"]},
    "unembed": {"table": weights["lm_head.weight"]},
    "final_norm": {"scale": weights["model.norm.weight"]},
    "blocks": {str(i): layer(i) for i in range(2)},
  }


GPT1 = {"embed": "transformer.tokens_embed.weight"}
GPT1["embed_positions"] = "transformer.positions_embed.weight"
GPT2 = {"embed": "transformer.wte.weight", "embed_positions": "transformer.wpe.weight"}


@pytest.mark.parametrize(
  ("name", "changes", "convert"),
  [
    ("gpt1", {"norm_position": "post"}, lambda weights: gpt_from_hugging_face(weights, GPT1)),
    ("gpt2", {}, lambda weights: gpt_from_hugging_face(weights, GPT2)),
    ("llama", {**MODERN, "kv_heads": 2, "hidden": 24}, llama_from_hugging_face),
  ],
)
def test_logits_are_those_of_hugging_face(name, changes, convert):
  golden = dict(np.load(GOLDENS / f"{name}.npz"))
  model = MODEL.clone(layers="loop", **changes)
  params = jax.tree.map(jnp.asarray, convert(golden))
  logits = jax.jit(model.apply)({"params": params}, golden["tokens"].astype(np.int32))
  np.testing.assert_allclose(logits, golden["logits"], atol=1e-5)
