"""GPT-2 on web text (Radford et al., 2019), in the sizes of its table 2.

  research run experiments/gpt2.py vocabulary=gpt2/ --workdir runs/gpt2
  research run experiments/gpt2.py vocabulary=gpt2/ size=xl model.vocab_size=50560 \\
      sharding.mesh.tensor=5
  research run experiments/gpt2.py:smoke

`vocabulary` is a folder with the published encoder.json and vocab.bpe (50,257 tokens).

Checked against the paper: layers and widths of table 2, 1,024 tokens, 512 sequences a batch, the
norm before each sublayer and once more at the end, residual projections scaled by 1/sqrt(2 *
depth) at the start, 50,257 byte-level BPE tokens (the table is padded to 50,304 for even
division; 50,560 divide by 5, as the 25 heads of `xl` do). The paper tuned its learning rates by
hand and does not give them; the optimizer is nanoGPT's: AdamW, 6e-4, betas 0.9 and 0.95, decay
0.1, clip 1, 2,000 updates of warmup, 600,000 in all. WebText was never released: `corpus` is any
TFDS dataset prepared as ArrayRecord, C4 or, where one has prepared it, OpenWebText, WebText's
reconstruction.

Expect: 2.85 nats per token on OpenWebText for `small` (nanoGPT's reproduction: 4 days, 8 A100).
"""

from research import Eval, Experiment, Sharding, data, models, objectives, optim

SIZES = {"small": (12, 768), "medium": (24, 1024), "large": (36, 1280), "xl": (48, 1600)}


def experiment(vocabulary="gpt2", corpus="c4", size="small", length=1024, steps=600_000, peak=6e-4):
  depth, width = SIZES[size]
  next_token = objectives.NextToken()
  return Experiment(
    name=f"gpt2_{size}",
    data=data.Text(data.TFDS(corpus), data.HuggingFace(vocabulary), length),
    model=models.GPT(
      vocab_size=50_304,
      max_length=length,
      width=width,
      depth=depth,
      heads=width // 64,
      dtype="bfloat16",
    ),
    objective=next_token,
    optimizer=optim.AdamW(
      optim.Cosine(peak, warmup=2_000, final=peak / 10), b2=0.95, weight_decay=0.1, clip=1.0
    ),
    steps=steps,
    batch_size=512,
    sharding=Sharding(mesh={"data": 1, "fsdp": -1, "tensor": 1}),
    evals={"heldout": Eval(next_token, batches=200, every=2_000)},
  )


def smoke():
  """The same experiment, small enough for a laptop: seconds, no download."""
  tokens = data.SentencePiece(512)
  return experiment().vary(
    "smoke",
    {
      "data": data.Text(data.TFDS("python_docs"), tokens, 32, limit=200_000),
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
