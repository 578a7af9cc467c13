"""A GPT on the source code of Python's standard library: 30 MB of real text, no download.

  research run experiments/python_source.py --workdir runs/python_source
  research run experiments/python_source.py width=512 depth=8 steps=20000

Expect: below the n-gram models of its report; a job for hours on two cores (not measured yet).
"""

from research import Eval, Experiment, Samples, data, generate, models, objectives, optim


def experiment(vocab_size=8192, length=512, width=384, depth=6, steps=6_000, peak=0.02):
  tokens = data.SentencePiece(vocab_size)
  next_token = objectives.NextToken()
  return Experiment(
    name="python_source",
    data=data.Text(data.TFDS("python_source"), tokens, length),
    model=models.GPT(
      vocab_size=tokens.vocab_size,
      max_length=length,
      width=width,
      depth=depth,
      heads=width // 64,
      norm="rms",
      positions="rotary",
      activation="swiglu",
      bias=False,
      dtype="bfloat16",
    ),
    objective=next_token,
    optimizer=optim.Muon(
      optim.WarmupStableDecay(peak, warmup=steps // 50 + 1, decay=0.5), clip=1.0
    ),
    steps=steps,
    batch_size=16,
    evals={"heldout": Eval(next_token, batches=64)},
    samples=Samples(
      prompts=("import ", "def test_", "class "),
      tokens=160,
      sampler=generate.Sample(temperature=0.8, top_p=0.95),
    ),
    baselines={f"{n}-gram": models.NGram(order=n) for n in (1, 2, 5)},
  )


def smoke():
  """The same experiment on the smaller corpus, small enough for a test."""
  return experiment(vocab_size=512, length=32, width=64, depth=2, steps=4).vary(
    "smoke", {"data.documents": data.TFDS("python_docs"), "data.limit": 200_000}
  )
