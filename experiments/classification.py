"""Texts, or pairs of them, with a label: BERT with a layer on [CLS] (Devlin et al., 2018, 4.1).

  research run experiments/classification.py train=train.csv start=runs/bert
  research run experiments/classification.py:small train=train.jsonl heldout=dev.jsonl labels=150
  research run experiments/classification.py:decoder train=train.csv start=runs/gpt1
  research run experiments/classification.py:smoke
  research predict runs/classification --input new.csv --output labels.csv
  research predict runs/classification "This movie is amazing."

`train` is a .csv, .tsv or .jsonl with the columns `text` and `label`, and one named by `pair` where
there are two texts; `heldout` and `test` are like it. Without `heldout`, a tenth is held out.
`labels` is how many there are; a wrong number is told the right one. `start` is a run that was
pre-trained or imported (`research import hf`); its model becomes the body (of one that has no
pooler, say "init_from.new=('^head/','pooler')"). Without it the body is new, of the `size` that
`bert.py` has, with the `vocabulary` of a BERT.

Checked against the paper (appendix A.3): dropout 0.1, Adam at 5e-5, 3e-5 or 2e-5, batches of 16 or
32, 2 to 4 epochs (`steps`: 3 epochs of 10,700 texts are 1,000), and from the authors' code a tenth
of warmup, then a line to zero, decay 0.01, clip 1. `decoder` is GPT-1's way (Radford et al., 2018,
section 4.1): 6.25e-5, 0.2 % of warmup, the words' loss beside at 0.5; its marks are end-of-text.
`small` is for two cores and no pre-training: two layers, 128 wide, its own SentencePieces.

Expect: the paper's base has 84.6 % on MNLI and 93.5 % on SST-2 (table 1); not measured here.
`small` on the sentence polarity of Rotten Tomatoes (9,597 texts), from scratch: 75.4 % ± 1.3 of the
1,067 of a random tenth, calibration error 0.13; 1 minute 51 seconds on two busy cores. `decoder`
from scratch, made as small (length=64 steps=600 peak=1e-3 data.tokenizer.vocab_size=4000
model.body.vocab_size=4000 model.body.width=128 model.body.depth=2 model.body.heads=2): 75.0 % ± 1.3
of such a tenth, calibration error 0.03, 8 minutes 48 seconds on two cores beside much else.
"""

import dataclasses

import bert

from research import Eval, Experiment, InitFrom, data, model_of, models, objectives, optim


def experiment(
  train,
  heldout="",
  test="",
  labels=2,
  pair="",
  start="",
  vocabulary="bert",
  size="base",
  length=128,
  steps=1_000,
  peak=2e-5,
):
  pretraining = bert.experiment(vocabulary, size=size, length=length)
  body = model_of(start).clone(dropout=0.1) if start else pretraining.model
  words = data.FromRun(start) if start else pretraining.data.tokenizer
  given = {
    name: data.LabelledFile(path, pair=pair or None)
    for name, path in {"train": train, "heldout": heldout, "test": test}.items()
    if path or name == "train"
  }
  scores = objectives.LabelScores()
  return Experiment(
    name="classification",
    data=data.Labelled(
      **given,
      tokenizer=words,
      length=length,
      labels=labels,
    ),
    model=models.Classifier(body, labels, dropout=0.1),
    objective=objectives.Label(),
    optimizer=dataclasses.replace(
      pretraining.optimizer, learning_rate=optim.Linear(peak, warmup=steps // 10)
    ),
    init_from=InitFrom(start, parts=(("body/", ""),), new=("^head/",), unused=("_head/", "unembed"))
    if start
    else None,
    steps=steps,
    batch_size=32,
    evals={"heldout": Eval(scores)} | ({"test": Eval(scores, split="test")} if test else {}),
  )


def decoder(
  train,
  heldout="",
  test="",
  labels=2,
  pair="",
  start="",
  length=128,
  steps=1_000,
  peak=6.25e-5,
):
  """GPT-1's way: the last state of a decoder, and the loss of its words beside."""
  made = experiment(
    train, heldout, test, labels, pair, start, length=length, steps=steps, peak=peak
  )
  words = data.SentencePiece(40_478, kind="bpe")
  new = models.GPT(words.vocab_size, 512, 768, 12, 12, norm_position="post", dropout=0.1)
  return made.vary(
    "decoder",
    {
      **({} if start else {"data.tokenizer": words}),
      "data.marks": (None, None, None),
      "model": models.GPTClassifier(made.model.body if start else new, labels, dropout=0.1),
      "objective": objectives.LabelAndNextToken(),
      "optimizer.learning_rate.warmup": max(1, steps // 500),
    },
  )


def small(train, heldout="", test="", labels=2, vocab_size=4_000, length=64, steps=600, peak=1e-3):
  """From scratch on a laptop, in minutes."""
  made = experiment(
    train, heldout, test, labels, size="tiny", length=length, steps=steps, peak=peak
  )
  return made.vary(
    "small",
    {
      "data.tokenizer": data.SentencePiece(vocab_size, special=data.MARKS),
      "model.body.vocab_size": vocab_size,
      "model.body.dtype": "float32",
      "model.body.remat": "none",
    },
  )


def smoke():
  """Which kind of Python statement a line is: seconds, no download."""
  return small("", labels=4, vocab_size=600, length=32, steps=60, peak=3e-3).vary(
    "smoke",
    {
      "data.train": data.PythonLines(),
      "model.body.width": 64,
      "batch_size": 16,
      "evals.heldout.batches": 8,
    },
  )
