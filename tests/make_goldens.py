"""Makes tests/golden/*.npz: tiny Hugging Face models, their weights and what they predict.

Run once, where torch and transformers are installed (they are no dependency of this project):

  python tests/make_goldens.py

Weights are random, also where Hugging Face starts from zeros and ones, so that every one matters.
"""

import pathlib

import numpy as np
import torch
import transformers

SIZES = {"vocab_size": 40, "tie_word_embeddings": True}
GPT = {**SIZES, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 4}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}

MODELS = {
  "gpt1": lambda: transformers.OpenAIGPTLMHeadModel(
    transformers.OpenAIGPTConfig(**GPT, **NO_DROPOUT)
  ),
  "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT, **NO_DROPOUT)),
  "llama": lambda: transformers.LlamaForCausalLM(
    transformers.LlamaConfig(
      vocab_size=40,
      max_position_embeddings=16,
      hidden_size=16,
      intermediate_size=24,
      num_hidden_layers=2,
      num_attention_heads=4,
      num_key_value_heads=2,
      rms_norm_eps=1e-5,
      tie_word_embeddings=False,
    )
  ),
}


def main():
  folder = pathlib.Path(__file__).parent / "golden"
  folder.mkdir(exist_ok=True)
  for name, make in MODELS.items():
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
      for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
      tokens = torch.randint(0, 40, (2, 16))
      logits = model(tokens).logits
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    weights = {key: value for key, value in weights.items() if value.dtype == np.float32}
    np.savez_compressed(
      folder / f"{name}.npz", tokens=tokens.numpy(), logits=logits.numpy(), **weights
    )
    print(name, sorted((key, value.shape) for key, value in weights.items()))


if __name__ == "__main__":
  main()
