"""Texts and their summaries: an encoder-decoder as T5 is fine-tuned (Raffel et al., 2019).

  research run experiments/summarization.py train=train.jsonl heldout=dev.jsonl start=runs/t5
  research run experiments/summarization.py:small train=train.jsonl heldout=dev.jsonl
  research run experiments/summarization.py:pretrain train=train.jsonl --workdir runs/pretrained
  research run experiments/summarization.py:small train=train.jsonl start=runs/pretrained
  research run experiments/summarization.py:smoke
  research predict runs/summarization_small --input new.jsonl --output summaries.jsonl

`train` is a .jsonl, .csv or .tsv with the fields `source` and `target`, and `heldout` and `test`
are like it. In .jsonl a source may be a list of sentences, and a target a list of summaries: each
is learned, and the best one counts. Without `heldout`, a tenth is held out. `start` is a run that
was pre-trained or imported (`research import hf`); without it the model is new, a T5 1.1 of the
`size` that `t5.py` has, with the `vocabulary` of a T5. Of long texts the ends are cut, and counted.

ROUGE is rouge-score's, F-measures without stemming; `lead_` before it: of a text's first sentence.

Checked against the paper (sections 2.1 and 3.1.2): 128 rows of 512 tokens a batch, Adafactor at a
constant 0.001, dropout 0.1, a beam of 4 with length penalty 0.6. Ours: 10,000 updates, where the
paper has 2^18 = 262,144; a target begins with end-of-text, as in `t5.py`, and the penalty is
Hugging Face's. `small` is for two cores: two layers on either side, its own SentencePieces, Muon.
`pretrain` has such a model restore spans of the texts that it will summarize.

Expect: the paper's base has a ROUGE-2 of 20.34 on CNN/DailyMail (table 14); not measured here.
`small` on SciTLDR (1,992 abstracts), from scratch: ROUGE-1, 2 and L of 23.1, 6.7 and 20.1 on the
619 of development, whose first sentences have 27.2, 10.5 and 21.8. What it writes has the form of a
summary, and hardly what its text says: so few pairs do not teach that. 26 minutes on two cores that
had four times as much to do. What `pretrain` adds has not been measured yet.
"""

import dataclasses

import t5

from research import Eval, Experiment, InitFrom, data, generate, model_of, models, objectives, optim
from research.rouge import Summarized


def experiment(
  train,
  heldout="",
  test="",
  start="",
  vocabulary="t5",
  size="base",
  length=128,
  source_length=512,
  steps=10_000,
  rate=1e-3,
):
  pretraining = t5.experiment(vocabulary, size=size, length=source_length)
  given = {
    name: data.SummaryFile(path)
    for name, path in {"train": train, "heldout": heldout, "test": test}.items()
    if path or name == "train"
  }
  evals = {
    "heldout": Summarized(generate.Beam(4, length_penalty=0.6), tokens=length),
    "loss": Eval(objectives.TargetToken()),
  }
  if test:
    evals["test"] = dataclasses.replace(evals["heldout"], split="test")
  return Experiment(
    name="summarization",
    data=data.Summaries(
      **given,
      tokenizer=data.FromRun(start) if start else pretraining.data.text.tokenizer,
      length=length,
      source_length=source_length,
    ),
    model=(model_of(start) if start else pretraining.model).clone(dropout=0.1),
    objective=objectives.TargetToken(),
    optimizer=optim.Adafactor(rate),
    init_from=InitFrom(start) if start else None,
    steps=steps,
    batch_size=128,
    sharding=pretraining.sharding,
    evals=evals,
  )


def small(
  train,
  heldout="",
  test="",
  start="",
  vocab_size=4_000,
  length=48,
  source_length=256,
  width=192,
  depth=2,
  steps=600,
  peak=0.02,
):
  """From scratch, or from `pretrain`, on a laptop: minutes."""
  made = experiment(train, heldout, test, start, length=length, source_length=source_length)
  words = data.SentencePiece(vocab_size, special=data.SENTINELS)
  return dataclasses.replace(
    made,
    name=f"{made.name}/small",
    data=made.data if start else dataclasses.replace(made.data, tokenizer=words),
    model=made.model if start else _model(vocab_size, source_length, width, depth),
    optimizer=_optimizer(peak, steps),
    steps=steps,
    batch_size=16,
    evals={
      name: dataclasses.replace(item, every=max(1, steps // 2)) for name, item in made.evals.items()
    },
  )


def pretrain(train, vocab_size=4_000, source_length=256, width=192, depth=2, steps=600, peak=0.02):
  """Spans of the texts themselves, restored."""
  words = data.SentencePiece(vocab_size, special=data.SENTINELS)
  texts = data.Text(data.Sources(data.SummaryFile(train)), words, 128)
  restored = objectives.TargetToken()
  return Experiment(
    name="summarization_pretrain",
    data=data.SpanCorruption(texts, rate=0.3, span=3.0),
    model=_model(vocab_size, source_length, width, depth),
    objective=restored,
    optimizer=_optimizer(peak, steps),
    steps=steps,
    batch_size=32,
    evals={"heldout": Eval(restored)},
  )


def smoke():
  """The first lines of docstrings, from what else they say: seconds, no download."""
  made = small("", vocab_size=600, length=16, source_length=64, width=64, depth=1, steps=4)
  return made.vary(
    "smoke",
    {
      "data.train": data.PythonSummaries(),
      "batch_size": 8,
      "evals.heldout.records": 8,
      "evals.heldout.tokens": 4,
      "evals.heldout.every": 4,
      "evals.loss.every": 4,
    },
  )


def _model(vocab_size, max_length, width, depth):
  return models.Transformer(
    vocab_size=vocab_size,
    max_length=max_length,
    width=width,
    depth=depth,
    heads=width // 64,
    norm="rms",
    norm_position="pre",
    positions="relative",
    bias=False,
    dropout=0.1,
    dtype="bfloat16",
  )


def _optimizer(peak, steps):
  return optim.Muon(
    optim.WarmupStableDecay(peak, warmup=steps // 25 + 1, decay=0.5),
    matrices=r"(^|/)(en|de)coder/.*kernel$",
    weight_decay=0.1,
    clip=1.0,
  )
