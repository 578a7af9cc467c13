"""Makes tests/golden/clip.npz: a tiny Hugging Face CLIP, its weights and its embeddings.

Run once, where torch and transformers are installed (they are no dependency of this project):

  python tests/make_clip_golden.py

Weights are random, also where Hugging Face starts from zeros and ones, so that every one matters.
"""

import pathlib

import numpy as np
import torch
import transformers

MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711])
TOWER = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2}
END = 39  # the largest token, where the text tower looks for the end


def main():
  torch.manual_seed(0)
  config = transformers.CLIPConfig(
    text_config={
      **TOWER,
      "num_attention_heads": 4,
      "vocab_size": 40,
      "max_position_embeddings": 7,
      "eos_token_id": END,
    },
    vision_config={**TOWER, "num_attention_heads": 2, "image_size": 12, "patch_size": 4},
    projection_dim=8,
  )
  model = transformers.CLIPModel(config).eval()
  random = np.random.RandomState(0)
  image = random.randint(0, 256, (3, 12, 12, 3)).astype(np.uint8)
  ends = np.array([3, 6, 1])
  caption = random.randint(0, END, (3, 7))
  caption[np.arange(3), ends] = END
  for row, end in zip(caption, ends):
    row[end + 1 :] = 0
  pixels = ((image / 255 - MEAN) / DEVIATION).transpose(0, 3, 1, 2).astype(np.float32)
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.add_(0.2 * torch.randn_like(parameter))
    model.logit_scale.fill_(2.0)
    out = model(input_ids=torch.from_numpy(caption), pixel_values=torch.from_numpy(pixels))
  weights = {key: value.numpy() for key, value in model.state_dict().items()}
  weights = {key: value for key, value in weights.items() if value.dtype == np.float32}
  np.savez_compressed(
    pathlib.Path(__file__).parent / "golden" / "clip.npz",
    image=image,
    caption=caption,
    ends=ends,
    image_embeds=out.image_embeds.numpy(),
    text_embeds=out.text_embeds.numpy(),
    logits_per_image=out.logits_per_image.numpy(),
    **weights,
  )
  print(sorted((key, value.shape) for key, value in weights.items()))


if __name__ == "__main__":
  main()
