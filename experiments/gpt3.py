"""GPT-3 (Brown et al., 2020) in the eight sizes of its table 2.1.

  research run experiments/gpt3.py vocabulary=gpt2/ --workdir runs/gpt3
  research run experiments/gpt3.py vocabulary=gpt2/ size=175B sharding.mesh.tensor=8
  research run experiments/gpt3.py:smoke

Checked against the paper (table 2.1 and appendix B): layers, widths, heads, tokens a batch and
learning rates; 2,048 tokens of context; Adam with betas 0.9, 0.95 and epsilon 1e-8; clip 1; decay
0.1; 375 million tokens of linear warmup; 300 billion tokens in all. Layers alternate between dense
and locally banded attention (section 2.1); the paper does not give the band, so 256 is ours.
Where we differ: the cosine reaches its tenth at the end of the 300 billion tokens, not at 260; the
batch does not grow over the first 4 to 12 billion tokens; XL takes 16 heads of 128 (the table's
24 heads of 128 are wider than its 2,048), and 13B is 5,120 wide (the table's 5,140 does not
divide by its 40 heads). The text is C4's, in place of the paper's mixture.

Expect: 3,640 PFLOP/s-days for 175B by the paper's table D.1; 2.6 for small.
"""

from research import Eval, Experiment, Sharding, data, models, objectives, optim

SIZES = {  # layers, width, heads, tokens a batch, learning rate
  "small": (12, 768, 12, 0.5e6, 6.0e-4),
  "medium": (24, 1024, 16, 0.5e6, 3.0e-4),
  "large": (24, 1536, 16, 0.5e6, 2.5e-4),
  "xl": (24, 2048, 16, 1.0e6, 2.0e-4),
  "2.7B": (32, 2560, 32, 1.0e6, 1.6e-4),
  "6.7B": (32, 4096, 32, 2.0e6, 1.2e-4),
  "13B": (40, 5120, 40, 2.0e6, 1.0e-4),
  "175B": (96, 12288, 96, 3.2e6, 0.6e-4),
}


def experiment(vocabulary="gpt2", size="small", length=2048, tokens=300e9, band=256):
  depth, width, heads, batch_tokens, peak = SIZES[size]
  batch_size = round(batch_tokens / length / 8) * 8
  next_token = objectives.NextToken()
  return Experiment(
    name=f"gpt3_{size}",
    data=data.Text(data.TFDS("c4"), data.HuggingFace(vocabulary), length),
    model=models.GPT(
      vocab_size=50_304,
      max_length=length,
      width=width,
      depth=depth,
      heads=heads,
      windows=(None, band),
      dtype="bfloat16",
      remat="full",
    ),
    objective=next_token,
    optimizer=optim.AdamW(
      optim.Cosine(peak, warmup=round(375e6 / batch_tokens), final=peak / 10),
      b2=0.95,
      weight_decay=0.1,
      clip=1.0,
    ),
    steps=round(tokens / (batch_size * length)),
    batch_size=batch_size,
    sharding=Sharding(mesh={"data": 1, "fsdp": -1, "tensor": 1}),
    evals={"heldout": Eval(next_token, batches=100, every=2_000)},
  )


def smoke():
  """The same experiment, small enough for a laptop: seconds, no download."""
  pieces = data.SentencePiece(512)
  return experiment(band=8).vary(
    "smoke",
    {
      "data": data.Text(data.TFDS("python_docs"), pieces, 32, limit=200_000),
      "model.vocab_size": 512,
      "model.max_length": 32,
      "model.width": 64,
      "model.depth": 2,
      "model.heads": 2,
      "optimizer.learning_rate.warmup": 2,
      "steps": 4,
      "batch_size": 8,
      "evals.heldout.batches": 2,
      "evals.heldout.every": 2,
    },
  )
