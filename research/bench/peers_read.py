"""The workers of Hugging Face on the very weights that ours read.

  python peers_read.py bert bfloat16 FOLDER sdpa
  python peers_read.py classify bfloat16 FOLDER uneven sdpa
  python peers_read.py translate bfloat16 FOLDER 8 sdpa

sdpa, eager   the model with this attention; sdpa is what its users get
compile       sdpa under torch.compile
gathered      that, with the words predicted at the masked places alone: the encoder and the head
              of the model, put together by hand
sorted        sdpa, of texts that were sorted by length first

A BERT of transformers predicts a word at every place. It trains with autocast, and predicts and
translates with weights of the dtype.
"""

import contextlib
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from serve import serve
from sizes import END, LABELS, NEW, ROWS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def bert(folder: Path, dtype: str, inputs: dict[str, torch.Tensor], peer: str) -> None:
  model = transformers.BertForMaskedLM.from_pretrained(
    folder, attn_implementation="eager" if peer == "eager" else "sdpa"
  )
  model = model.to(DEVICE).train()  # its config says that nothing is dropped
  tokens, labels = inputs["tokens"], inputs["labels"]
  rows, columns = torch.nonzero(labels >= 0, as_tuple=True)
  targets = labels[rows, columns]

  def gathered():
    words = model.cls(model.bert(tokens)[0][rows, columns])
    return torch.nn.functional.cross_entropy(words.float(), targets)

  def whole():
    return model(tokens, labels=labels).loss

  loss_of = gathered if peer == "gathered" else whole
  if peer in ("compile", "gathered"):
    loss_of = torch.compile(loss_of)
  optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.1, fused=True)

  def run():
    narrow = dtype == "bfloat16"
    with torch.autocast(DEVICE, torch.bfloat16) if narrow else contextlib.nullcontext():
      loss = loss_of()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {"close": [loss.item()]}

  serve(run, count=tokens.numel(), threads=torch.get_num_threads())


def classify(
  folder: Path, dtype: str, inputs: dict[str, torch.Tensor], lengths: str, peer: str
) -> None:
  model = transformers.BertForSequenceClassification.from_pretrained(
    folder, num_labels=LABELS, attn_implementation="eager" if peer == "eager" else "sdpa"
  )
  with torch.no_grad():
    model.classifier.weight.copy_(inputs["kernel"].T)
    model.classifier.bias.copy_(inputs["bias"])
  model = model.to(DEVICE, getattr(torch, dtype)).eval()
  ask = torch.compile(model, dynamic=lengths == "uneven") if peer == "compile" else model
  # The host cut the texts into words: it knows how long they are, and which come next.
  tokens, counts = inputs[lengths].long(), inputs[f"{lengths}_lengths"].cpu()
  order = torch.argsort(counts, stable=True) if peer == "sorted" else torch.arange(len(counts))

  @torch.inference_mode()
  def run():
    found = torch.empty(len(tokens), LABELS)
    for start in range(0, len(tokens), ROWS):
      some = order[start : start + ROWS]
      longest = int(counts[some].max())  # what a tokenizer pads to
      there = (torch.arange(longest) < counts[some][:, None]).to(DEVICE)
      logits = ask(tokens[some.to(DEVICE), :longest] * there, attention_mask=there.long()).logits
      found[some] = logits.float().softmax(dim=-1).cpu()
    return {"close": found.ravel().tolist()}

  serve(run, count=int(counts.sum()), threads=torch.get_num_threads())


def translate(
  folder: Path, dtype: str, inputs: dict[str, torch.Tensor], texts: int, peer: str
) -> None:
  model = transformers.T5ForConditionalGeneration.from_pretrained(folder, attn_implementation=peer)
  model = model.to(DEVICE, getattr(torch, dtype)).eval()
  sources = inputs["sources"][:texts].long()
  seen = torch.ones_like(sources)
  settings = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "num_beams": 1}
  tokens = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": END}

  @torch.inference_mode()
  def run():
    written = model.generate(sources, attention_mask=seen, **settings, **tokens)
    return {"same": written[:, 1:].ravel().tolist()}

  with torch.inference_mode():
    first = model(sources, decoder_input_ids=torch.zeros_like(sources[:, :1])).logits
  close = first[:, 0, :64].float().ravel().tolist()
  serve(lambda: {"close": close, **run()}, count=texts * NEW, threads=torch.get_num_threads())


def main() -> None:
  kind, dtype, folder, *more, peer = sys.argv[1:]
  with np.load(Path(folder) / "inputs.npz") as arrays:
    inputs = {name: torch.from_numpy(x).to(DEVICE) for name, x in arrays.items()}
  given = Path(folder), dtype, inputs
  if kind == "bert":
    bert(*given, peer)
  elif kind == "classify":
    classify(*given, more[0], peer)
  else:
    translate(*given, int(more[0]), peer)


if __name__ == "__main__":
  main()
