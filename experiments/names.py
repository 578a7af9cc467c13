"""First names, letter by letter: counting pairs, then a GPT (makemore's corpus and figures).

Give a file with one lower-case name a line (makemore's names.txt, 32,033 names).

  research run experiments/names.py:bigram file=names.txt --workdir runs/bigram
  research run experiments/names.py file=names.txt --workdir runs/names
  research sample runs/names --samples 10

Expect: `bigram`, the maximum-likelihood pairs of letters fitted and scored on all names, 2.45401
nats a letter exactly; the GPT, on names that it has not seen, 2.01 after some minutes.
"""

from research import Eval, Experiment, Samples, data, generate, models, objectives, optim


def experiment(file: str, width=64, depth=4, steps=3_000, peak=2e-3):
  next_token = objectives.NextToken()
  return Experiment(
    name="names",
    data=names(file, heldout=0.1),
    model=models.GPT(
      vocab_size=data.Bytes().vocab_size, max_length=32, width=width, depth=depth, heads=4
    ),
    objective=next_token,
    optimizer=optim.AdamW(optim.Cosine(peak, warmup=steps // 30 + 1), weight_decay=0.1, clip=1.0),
    steps=steps,
    batch_size=64,
    evals={"heldout": Eval(next_token)},
    samples=Samples(prompts=("",) * 10, tokens=20, sampler=generate.Sample(temperature=1.0)),
    baselines={f"{n}-gram": models.NGram(order=n) for n in (1, 2, 5)},
  )


def bigram(file: str):
  """The count of every pair of letters over the count of its first: nothing is held out."""
  return Experiment(
    name="names_bigram",
    data=names(file, heldout=0.0),
    model=models.NGram(order=2, smoothing=models.Additive(0)),
    evals={"all": Eval(objectives.NextToken(), split="train")},
  )


def names(file, heldout):
  lines = data.Files(file, separator="\n")
  return data.Text(
    lines, data.Bytes(), length=32, split=data.ByHash(heldout=heldout), duplicates="kept"
  )


def smoke():
  """Tiny, on text that every machine has."""
  docs = {"data.documents": data.TFDS("python_docs"), "data.limit": 100_000}
  return experiment("", width=32, depth=2, steps=4).vary("smoke", docs)
