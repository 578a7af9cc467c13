"""LLaMA 2 (Touvron et al., 2023) in the sizes of its table 1 that were released.

  research run experiments/llama.py vocabulary=FOLDER --workdir runs/llama
  research plan experiments/llama.py --topology v5e:16x16
  research plan experiments/llama.py size=70B batch_tokens=524288 --topology v5p:4x4x4
  research run experiments/llama.py:smoke

Checked against the paper (section 2.2, table 1) and its predecessor's table 2 (Touvron et al.,
2023a) for widths, layers and heads: 4,096 tokens of context; 4 million tokens a batch; 2,000 steps
of warmup, then a cosine to a tenth; AdamW with betas 0.9, 0.95 and epsilon 1e-5; weight decay 0.1;
clip 1; 2 trillion tokens; RMSNorm, SwiGLU, rotary positions, and for 70B eight key/value heads.
MLP widths are those of the released weights. The text is C4's, in place of the paper's mixture,
and the tokenizer is yours, of 32,000 words.

Expect: about 1.75 nats per token for 7B, 1.68 for 13B and 1.5 for 70B after 2 trillion tokens, read
off the paper's figure 5, on its text; 184,320, 368,640 and 1,720,320 hours on A100 (its table 2).
"""

from research import Eval, Experiment, Sharding, data, models, objectives, optim

SIZES = {  # layers, width, heads, key/value heads, MLP width, learning rate
  "7B": (32, 4096, 32, 32, 11_008, 3.0e-4),
  "13B": (40, 5120, 40, 40, 13_824, 3.0e-4),
  "70B": (80, 8192, 64, 8, 28_672, 1.5e-4),
}


def experiment(vocabulary="llama", size="7B", length=4096, batch_tokens=2**22, tokens=2e12):
  depth, width, heads, kv_heads, hidden, peak = SIZES[size]
  batch_size = batch_tokens // length
  next_token = objectives.NextToken()
  return Experiment(
    name=f"llama_{size}",
    data=data.Text(data.TFDS("c4"), data.HuggingFace(vocabulary), length),
    model=models.GPT(
      vocab_size=32_000,
      max_length=length,
      width=width,
      depth=depth,
      heads=heads,
      kv_heads=kv_heads,
      hidden=hidden,
      norm="rms",
      positions="rotary",
      activation="swiglu",
      tied=False,
      bias=False,
      dtype="bfloat16",
      remat="save_qkv",
    ),
    objective=next_token,
    optimizer=optim.AdamW(
      optim.Cosine(peak, warmup=2_000, final=peak / 10),
      b2=0.95,
      eps=1e-5,
      weight_decay=0.1,
      clip=1.0,
    ),
    steps=round(tokens / batch_tokens),
    batch_size=batch_size,
    sharding=Sharding(mesh={"fsdp": -1}),
    evals={"heldout": Eval(next_token, batches=100, every=2_000)},
  )


def smoke():
  """The same experiment, small enough for a laptop: seconds, no download."""
  pieces = data.SentencePiece(512)
  return experiment().vary(
    "smoke",
    {
      "data": data.Text(data.TFDS("python_docs"), pieces, 32, limit=200_000),
      "model.vocab_size": 512,
      "model.max_length": 32,
      "model.width": 64,
      "model.depth": 2,
      "model.heads": 4,
      "model.kv_heads": 2,
      "model.hidden": 128,
      "optimizer.learning_rate.warmup": 2,
      "steps": 4,
      "batch_size": 8,
      "evals.heldout.batches": 2,
      "evals.heldout.every": 2,
    },
  )
