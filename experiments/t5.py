"""T5 1.1: spans of text restored by an encoder-decoder (Raffel et al., 2019; Shazeer, 2020).

  research run experiments/t5.py vocabulary=FOLDER --workdir runs/t5
  research run experiments/t5.py vocabulary=FOLDER size=xl sharding=fsdp_tp
  research run experiments/t5.py:smoke

`vocabulary` is a folder with a T5's tokenizer.json, 32,000 pieces and 100 sentinels; the text is
C4's.

Checked against the paper (sections 2.1, 3.1 and 3.7) and the configurations that the authors have
released for 1.1 (small to xxl): depths, widths, gated GELU, heads of 64, 32 buckets of positions
up to 128, RMSNorm before each layer without biases, an untied head, no dropout in pre-training;
rows of 512 tokens after 15 % are cut out in spans of 3; batches of 2,048 rows, 1,000,000 updates;
Adafactor with relative steps, 1 / sqrt(t) after 10,000 updates. Ours: the first 10,000 updates
rise to that rate, where the paper's have it from the start; a target begins with end-of-text, not
with padding.

Expect: the paper does not say the loss of 1.1. `smoke` shows that it runs.
"""

from research import Eval, Experiment, Sharding, data, models, objectives, optim

SIZES = {  # layers on either side, width, MLP width, heads
  "small": (8, 512, 1024, 6),
  "base": (12, 768, 2048, 12),
  "large": (24, 1024, 2816, 16),
  "xl": (24, 2048, 5120, 32),
  "xxl": (24, 4096, 10_240, 64),
}


def experiment(vocabulary="t5", corpus="c4", size="base", length=568, steps=1_000_000):
  depth, width, hidden, heads = SIZES[size]
  target_token = objectives.TargetToken()
  text = data.Text(data.TFDS(corpus), data.HuggingFace(vocabulary), length)
  return Experiment(
    name=f"t5_{size}",
    data=data.SpanCorruption(text, rate=0.15, span=3.0),
    model=models.Transformer(
      vocab_size=32_128,
      max_length=length,
      width=width,
      depth=depth,
      heads=heads,
      hidden=hidden,
      key_size=64,
      norm="rms",
      norm_position="pre",
      activation="geglu",
      positions="relative",
      tied=False,
      bias=False,
      scale_embedding=False,
      scale_scores=False,
      epsilon=1e-6,
      dtype="bfloat16",
      remat="minimal",
    ),
    objective=target_token,
    optimizer=optim.Adafactor(optim.InverseSquareRoot(warmup=10_000, peak=0.01)),
    steps=steps,
    batch_size=2_048,
    sharding=Sharding(mesh={"data": 1, "fsdp": -1, "tensor": 1}),
    evals={"heldout": Eval(target_token, batches=20, every=5_000)},
  )


def smoke():
  """The same experiment, small enough for a laptop; half of its short rows is restored."""
  words = data.SentencePiece(1_024, special=data.SENTINELS)
  text = data.Text(data.TFDS("python_docs"), words, 34, limit=200_000)
  return experiment().vary(
    "smoke",
    {
      "data.text": text,
      "data.rate": 0.5,
      "model.vocab_size": 1_024,
      "model.max_length": 40,
      "model.width": 64,
      "model.hidden": 128,
      "model.depth": 2,
      "model.heads": 4,
      "model.key_size": 16,
      "optimizer.learning_rate.warmup": 2,
      "steps": 4,
      "batch_size": 8,
      "evals.heldout.batches": 2,
      "evals.heldout.every": 2,
    },
  )
