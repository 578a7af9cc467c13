"""The workers of Hugging Face and open_clip that train a CLIP from the weights that ours reads.

  python peers_clip.py clip bfloat16 FOLDER open_clip

sdpa                 transformers' CLIPModel with what its users get
compile              that under torch.compile
open_clip            its CLIP, with its loss
open_clip_compile    that under torch.compile

Both train with autocast where it is to be narrow, and are given pictures that are normalized
already. Runs under an interpreter that has torch, transformers and open_clip.
"""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers
from serve import serve

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
# Of open_clip's parameters, by what transformers calls them.
NAMES = {
  "vision_model.embeddings.class_embedding": "visual.class_embedding",
  "vision_model.embeddings.patch_embedding": "visual.conv1",
  "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
  "vision_model.pre_layrnorm": "visual.ln_pre",
  "vision_model.post_layernorm": "visual.ln_post",
  "vision_model.encoder.layers": "visual.transformer.resblocks",
  "visual_projection.weight": "visual.proj",
  "text_model.embeddings.token_embedding": "token_embedding",
  "text_model.embeddings.position_embedding.weight": "positional_embedding",
  "text_model.final_layer_norm": "ln_final",
  "text_model.encoder.layers": "transformer.resblocks",
  "text_projection.weight": "text_projection",
  "layer_norm1": "ln_1",
  "layer_norm2": "ln_2",
  "self_attn.out_proj": "attn.out_proj",
  "self_attn.q_proj.": "attn.in_proj_",  # with those of the keys and the values behind it
  "mlp.fc1": "mlp.c_fc",
  "mlp.fc2": "mlp.c_proj",
}

Loss = Callable[[], torch.Tensor]


def of_hugging_face(
  folder: Path, pixels: torch.Tensor, captions: torch.Tensor
) -> tuple[torch.nn.Module, Loss]:
  config = transformers.CLIPConfig.from_pretrained(folder)
  config.text_config.eos_token_id = config.text_config.vocab_size - 1
  model = transformers.CLIPModel.from_pretrained(folder, config=config, attn_implementation="sdpa")
  model = model.to(DEVICE).train()
  return model, lambda: model(captions, pixels, return_loss=True).loss


def of_open_clip(
  folder: Path, pixels: torch.Tensor, captions: torch.Tensor
) -> tuple[torch.nn.Module, Loss]:
  import open_clip

  theirs = transformers.CLIPModel.from_pretrained(folder)
  image, text = theirs.config.vision_config, theirs.config.text_config
  model = open_clip.CLIP(
    theirs.config.projection_dim,
    open_clip.CLIPVisionCfg(
      layers=image.num_hidden_layers,
      width=image.hidden_size,
      head_width=image.hidden_size // image.num_attention_heads,
      patch_size=image.patch_size,
      image_size=image.image_size,
    ),
    open_clip.CLIPTextCfg(
      context_length=text.max_position_embeddings,
      vocab_size=text.vocab_size,
      width=text.hidden_size,
      heads=text.num_attention_heads,
      layers=text.num_hidden_layers,
    ),
    quick_gelu=True,
  )
  model.load_state_dict(renamed(theirs.state_dict()))
  model = model.to(DEVICE).train()
  loss = open_clip.ClipLoss(cache_labels=True)
  return model, lambda: loss(*model(pixels, captions))


def renamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
  """transformers' parameters as open_clip's."""
  found = {}
  for name, x in tensors.items():
    if ".k_proj." in name or ".v_proj." in name:
      continue
    if ".q_proj." in name:
      x = torch.cat([tensors[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"])
    for theirs, ours in NAMES.items():
      name = name.replace(theirs, ours)
    found[name] = x.T if name in ("visual.proj", "text_projection") else x
  return found


def main() -> None:
  kind, dtype, folder, peer = sys.argv[1:]
  assert kind == "clip"  # noqa: S101 (what `comparisons` says)
  with np.load(Path(folder) / "inputs.npz") as arrays:
    image_BYXC, captions = arrays["image"], torch.from_numpy(arrays["caption"]).long().to(DEVICE)
  normalized = (image_BYXC / 255 - np.array(MEAN)) / np.array(DEVIATION)
  pixels = torch.from_numpy(normalized.transpose(0, 3, 1, 2).astype(np.float32).copy()).to(DEVICE)
  made = of_open_clip if peer.startswith("open_clip") else of_hugging_face
  model, loss_of = made(Path(folder), pixels, captions)
  if peer.endswith("compile"):
    loss_of = torch.compile(loss_of)
  optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.1, fused=True)
  narrow = dtype == "bfloat16"

  def run():
    with torch.autocast(DEVICE, torch.bfloat16) if narrow else contextlib.nullcontext():
      loss = loss_of()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {"close": [loss.item()]}

  serve(run, count=len(captions), threads=torch.get_num_threads())


if __name__ == "__main__":
  main()
