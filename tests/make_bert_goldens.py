"""Makes tests/golden/bert.npz: a tiny BertForPreTraining, its weights and what it predicts.

Run once, where torch and transformers are installed (they are no dependency of this project):

  python tests/make_bert_goldens.py

Weights are random, also where Hugging Face starts from zeros and ones, so that every one matters.
"""

import pathlib

import numpy as np
import torch
import transformers

SIZES = {
  "vocab_size": 40,
  "hidden_size": 16,
  "num_hidden_layers": 2,
  "num_attention_heads": 4,
  "intermediate_size": 24,
  "max_position_embeddings": 16,
}


def main():
  torch.manual_seed(0)
  model = transformers.BertForPreTraining(transformers.BertConfig(**SIZES)).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.add_(0.2 * torch.randn_like(parameter))
    tokens = torch.randint(0, 40, (3, 16))
    segments = torch.ones(3, 16, dtype=torch.int64)
    segments[0, 7:], segments[1, 4:], segments[1, 11:] = 2, 2, 0
    predicted = model(
      tokens,
      attention_mask=(segments > 0).long(),
      token_type_ids=(segments - 1).clamp(min=0),
    )
  weights = {key: value.numpy() for key, value in model.state_dict().items()}
  weights = {key: value for key, value in weights.items() if value.dtype == np.float32}
  path = pathlib.Path(__file__).parent / "golden" / "bert.npz"
  np.savez_compressed(
    path,
    tokens=tokens.numpy().astype(np.int32),
    segments=segments.numpy().astype(np.int32),
    words=predicted.prediction_logits.numpy(),
    next_sentence=predicted.seq_relationship_logits.numpy(),
    **weights,
  )


if __name__ == "__main__":
  main()
