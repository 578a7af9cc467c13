"""Makes tests/golden/hf.npz: what Hugging Face's models predict in every case of hf_cases.py.

Run where torch and transformers are installed (they are no dependency of this project):

  python tests/make_hf_goldens.py                 # the golden file
  python tests/make_hf_goldens.py FOLDERS OUT     # of models that lie in FOLDERS/NAME: see below

The second form loads each folder as anybody would, asks the same, writes OUT/NAME.npz, and saves
what it loaded in OUT/NAME. It fails where a tensor was missing or not expected.
"""

import json
import pathlib
import sys
import tempfile

import numpy as np
import torch
import transformers
from hf_cases import BEAM, BEGIN, CASES, END, PAD, Case, weight
from safetensors.numpy import load_file, save_file

GOLDEN = pathlib.Path(__file__).parent / "golden" / "hf.npz"


def make(case: Case, folder: pathlib.Path) -> None:
  """Writes a model with the weights of the cases into a folder."""
  architecture = getattr(transformers, case.architecture)
  config = architecture.config_class(**case.values)
  architecture(config).save_pretrained(folder)
  names = {name: x.shape for name, x in load_file(folder / "model.safetensors").items()}
  names |= dict(case.extra)
  tensors = {name: weight(name, shape) for name, shape in names.items()}
  save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load(case: Case, folder: pathlib.Path) -> torch.nn.Module:
  architecture = getattr(transformers, case.architecture)
  model, found = architecture.from_pretrained(
    folder, attn_implementation="eager", output_loading_info=True, dtype=torch.float32
  )
  wrong = {name: keys for name, keys in found.items() if keys}
  assert not wrong, (case.name, wrong)
  return model.eval()


@torch.no_grad()
def ask(case: Case, model: torch.nn.Module) -> dict[str, np.ndarray]:
  given = {name: torch.from_numpy(x).long() for name, x in case.inputs.items() if name != "image"}
  tokens, mask = given["tokens"], given["mask"]
  kind, architecture = case.kind, case.architecture
  if kind in ("clip", "siglip", "vit"):
    return ask_pictures(case, model, given)
  shared = {"input_ids": tokens, "attention_mask": mask, "output_hidden_states": True}
  if kind in ("t5", "mt5", "bart", "marian"):
    out = model(**shared, decoder_input_ids=given["targets"])
    found = {"memory": out.encoder_last_hidden_state}
    found |= {"logits": out.logits} if "logits" in out else {"states": out.last_hidden_state}
  elif kind in ("bert", "roberta"):
    out = model(**shared, token_type_ids=given["types"])
    found = {"hidden": out.hidden_states[-1]}
    for theirs, ours in NAMES.items():
      if theirs in out and (theirs, architecture) != ("logits", "BertForNextSentencePrediction"):
        found[ours] = out[theirs]
      elif theirs in out:
        found["next_sentence"] = out[theirs]
  else:
    positions = {} if kind == "openai-gpt" else {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    out = model(**shared, **positions)
    found = {"hidden": out.hidden_states[-1]}
    if "logits" in out:
      found["logits"] = out.logits
  for way, steps, beams in (("greedy", case.greedy, 1), ("beam", case.beam, BEAM)):
    if steps:
      written = model.generate(
        input_ids=tokens,
        attention_mask=mask,
        max_new_tokens=steps,
        do_sample=False,
        num_beams=beams,
        bos_token_id=BEGIN,
        eos_token_id=END,
        pad_token_id=PAD,
      )
      found[way] = written[:, 1 if "memory" in found else case.length :]
  return {name: x.numpy() for name, x in found.items()}


NAMES = {
  "prediction_logits": "words",
  "logits": "words",
  "seq_relationship_logits": "next_sentence",
  "pooler_output": "pooled",
}


def ask_pictures(case, model, given):
  mean, deviation = 0.5, 0.5
  if case.kind == "clip":
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    deviation = np.array([0.26862954, 0.26130258, 0.27577711])
  pixels = ((case.inputs["image"] / 255 - mean) / deviation).transpose(0, 3, 1, 2)
  pixels = torch.from_numpy(pixels.astype(np.float32))
  if case.kind == "vit":
    out = model(pixel_values=pixels)
    names = [name for name in ("pooler_output", "logits") if name in out]
    return {"pictures": out[names[0]].numpy()}
  out = model(pixel_values=pixels, input_ids=given["caption"])
  return {
    "image": out.image_embeds.numpy(),
    "text": out.text_embeds.numpy(),
    "scores": out.logits_per_image.numpy(),
  }


def main(folders: str = "", out: str = "") -> None:
  transformers.logging.set_verbosity_error()
  transformers.logging.disable_progress_bar()
  golden = {}
  for case in CASES:
    if folders:
      model = load(case, pathlib.Path(folders) / case.name)
      np.savez(pathlib.Path(out) / f"{case.name}.npz", **ask(case, model))
      model.save_pretrained(pathlib.Path(out) / case.name)
      continue
    with tempfile.TemporaryDirectory() as folder:
      make(case, pathlib.Path(folder))
      for name, x in ask(case, load(case, pathlib.Path(folder))).items():
        golden[f"{case.name}/{name}"] = x
      config = json.loads((pathlib.Path(folder) / "config.json").read_text())
      golden[f"{case.name}/config"] = np.frombuffer(json.dumps(config).encode(), np.uint8)
      tensors = load_file(pathlib.Path(folder) / "model.safetensors")
      names = json.dumps({name: x.shape for name, x in tensors.items()}).encode()
      golden[f"{case.name}/tensors"] = np.frombuffer(names, np.uint8)
  if not folders:
    np.savez_compressed(GOLDEN, **golden)
    print(GOLDEN, f"{GOLDEN.stat().st_size / 1e6:.2f} MB, {len(CASES)} cases")


if __name__ == "__main__":
  main(*sys.argv[1:])
