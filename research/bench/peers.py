"""The peers' workers: PyTorch and Hugging Face, each as fast as its users can have it.

  python peers.py train small bfloat16 eager
  python peers.py decode small bfloat16 8 hf

hf         transformers' GPT-2, scaled dot product attention, fused AdamW, autocast
torch      a plain GPT in PyTorch under torch.compile
eager      the same with attention as two products and a softmax, which is faster on CPUs

Runs under an interpreter that has torch and transformers; it imports nothing of this project but
its two neighbours of the standard library.
"""

import contextlib
import sys

import torch
from serve import serve
from sizes import NEW, PROMPT, SIZES, TRAIN, Size
from torch import nn
from torch.nn import functional

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Block(nn.Module):
  """A layer of GPT-2."""

  def __init__(self, size: Size, fused: bool):
    super().__init__()
    D, self.heads, self.fused = size.width, size.heads, fused
    self.norm_1, self.norm_2 = nn.LayerNorm(D), nn.LayerNorm(D)
    self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
    self.up, self.down = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)

  def forward(self, x, hidden):
    B, L, D = x.shape
    q, k, v = self.qkv(self.norm_1(x)).split(D, dim=2)
    q, k, v = (y.view(B, L, self.heads, -1).transpose(1, 2) for y in (q, k, v))
    if self.fused:
      y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
      scores = (q @ k.transpose(-2, -1)) * (1 / k.shape[-1] ** 0.5)
      y = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1) @ v
    x = x + self.out(y.transpose(1, 2).reshape(B, L, D))
    return x + self.down(functional.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class GPT(nn.Module):
  """GPT-2 as nanoGPT's readers know it: tied embeddings, one product for q, k and v."""

  def __init__(self, size: Size, length: int, fused: bool):
    super().__init__()
    self.embed, self.positions = (
      nn.Embedding(size.vocab_size, size.width),
      nn.Embedding(length, size.width),
    )
    self.blocks = nn.ModuleList(Block(size, fused) for _ in range(size.depth))
    self.norm = nn.LayerNorm(size.width)
    self.apply(self.initialize)
    hidden = torch.ones(length, length).triu(1).bool()
    self.register_buffer("hidden", hidden, persistent=False)

  def initialize(self, module):
    if isinstance(module, nn.Linear | nn.Embedding):
      nn.init.normal_(module.weight, std=0.02)

  def forward(self, tokens, targets):
    x = self.embed(tokens) + self.positions.weight
    for block in self.blocks:
      x = block(x, self.hidden)
    logits = functional.linear(self.norm(x), self.embed.weight)
    return functional.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


def hugging_face(size: Size, length: int):
  import transformers

  config = transformers.GPT2Config(
    vocab_size=size.vocab_size,
    n_positions=length,
    n_embd=size.width,
    n_layer=size.depth,
    n_head=size.heads,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
    bos_token_id=0,
    eos_token_id=0,
    attn_implementation="sdpa",
  )
  return transformers.GPT2LMHeadModel(config)


def training(size: Size, dtype: str, peer: str) -> None:
  length, batch_size = TRAIN[size.name]
  tokens = torch.randint(0, size.vocab_size, (batch_size, length + 1), device=DEVICE)
  inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
  if peer == "hf":
    model = hugging_face(size, length).to(DEVICE).train()
    loss_of = lambda: model(inputs, labels=inputs).loss  # noqa: E731 (it shifts labels itself)
  else:
    model = GPT(size, length, fused=peer == "torch").to(DEVICE)
    compiled = torch.compile(model)
    loss_of = lambda: compiled(inputs, targets)  # noqa: E731
  optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.1, fused=True)
  narrow = dtype == "bfloat16"

  def run():
    context = torch.autocast(DEVICE, torch.bfloat16) if narrow else contextlib.nullcontext()
    with context:
      loss = loss_of()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    loss.item()
    if DEVICE == "cuda":
      torch.cuda.synchronize()

  serve(run, count=batch_size * length, threads=torch.get_num_threads())


def decoding(size: Size, dtype: str, texts: int) -> None:
  model = hugging_face(size, 1024).to(DEVICE, getattr(torch, dtype)).eval()
  prompts = torch.randint(0, size.vocab_size, (texts, PROMPT), device=DEVICE)
  seen = torch.ones_like(prompts)
  settings = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "use_cache": True}

  @torch.inference_mode()
  def run():
    written = model.generate(prompts, attention_mask=seen, pad_token_id=0, **settings)
    assert written.shape == (texts, PROMPT + NEW)  # noqa: S101 (a benchmark of less is none)

  serve(run, count=texts * NEW, threads=torch.get_num_threads())


def main() -> None:
  kind, size, dtype, *texts, peer = sys.argv[1:]
  torch.manual_seed(0)
  if kind == "train":
    training(SIZES[size], dtype, peer)
  else:
    decoding(SIZES[size], dtype, int(texts[0]))


if __name__ == "__main__":
  main()
