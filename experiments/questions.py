"""Questions that a text answers, or does not: spans by BERT (Devlin et al., 2018, 4.2 and 4.3).

  research run experiments/questions.py train=train-v2.0.json heldout=dev-v2.0.json start=runs/bert
  research run experiments/questions.py:small train=train.jsonl heldout=dev.jsonl
  research run experiments/questions.py:smoke
  research predict runs/questions --input new.jsonl --output answers.jsonl
  research predict runs/questions "Who wrote it?" "The book was written by Ada."

`train` and `heldout` are SQuAD's .json (1.1 and 2.0) or .jsonl files of a question a line, see
`data.SQuAD`. Without `heldout`, a tenth of `train` is held out. `start` is a run that was
pre-trained or imported. Exact match and F1 are SQuAD's. No answer is given where it is likelier
than the best span; `evals.heldout.threshold=None` always answers, as SQuAD 1.1 asks for.

Checked against the paper: spans of at most 30 tokens, 5e-5 and batches of 32 for 3 epochs (1.1;
about 8,200 steps), 48 for 2 epochs (2.0); from the authors' code rows of 384 tokens, windows every
128, questions of 64, a tenth of warmup. Ours: of overlapping windows the likeliest span counts by
its probability in its window, and logits where no answer can be are left out.
`small` is for two cores, from scratch.

Expect: the paper's base has an F1 of 88.5 on SQuAD 1.1 (table 2); not measured here. `small` on
the questions of Restaurant-8K (11,025; length=48), from scratch, after 400 steps of 500: exact
match 0.73 and F1 0.80 on its test questions; 1 minute 37 seconds on two busy cores.
"""

import dataclasses

import bert

from research import Answered, Experiment, InitFrom, data, model_of, models, objectives, optim


def experiment(
  train,
  heldout="",
  start="",
  vocabulary="bert",
  size="base",
  length=384,
  stride=128,
  question=64,
  steps=8_200,
  peak=5e-5,
):
  pretraining = bert.experiment(vocabulary, size=size, length=length)
  body = model_of(start).clone(dropout=0.1) if start else pretraining.model
  words = data.FromRun(start) if start else pretraining.data.tokenizer
  span = objectives.Span()
  return Experiment(
    name="questions",
    data=data.Questions(
      data.SQuAD(train),
      words,
      length,
      stride,
      question,
      heldout=data.SQuAD(heldout) if heldout else None,
    ),
    model=models.Reader(body),
    objective=span,
    optimizer=dataclasses.replace(
      pretraining.optimizer, learning_rate=optim.Linear(peak, warmup=steps // 10)
    ),
    init_from=InitFrom(
      start, parts=(("body/", ""),), new=("^head/",), unused=("_head/", "pooler", "unembed")
    )
    if start
    else None,
    steps=steps,
    batch_size=32,
    evals={"heldout": Answered(span)},
  )


def small(train, heldout="", vocab_size=2_000, length=64, question=16, steps=800, peak=1e-3):
  """From scratch on a laptop, in minutes."""
  made = experiment(
    train, heldout, size="tiny", length=length, question=question, steps=steps, peak=peak
  )
  return made.vary(
    "small",
    {
      "data.tokenizer": data.SentencePiece(vocab_size, special=data.MARKS),
      "data.stride": 24,
      "model.body.vocab_size": vocab_size,
      "model.body.dtype": "float32",
      "model.body.remat": "none",
    },
  )


def smoke():
  """What a line of Python defines, if anything: seconds, no download."""
  return small("", vocab_size=600, steps=60, peak=3e-3).vary(
    "smoke",
    {"data.train": data.PythonQuestions(), "model.body.width": 64, "batch_size": 16},
  )
