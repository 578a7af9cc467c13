"""Named entities: BERT with a layer on every state (Devlin et al., 2018, section 5.3).

  research run experiments/tagging.py train=train.conll heldout=dev.conll types=3 start=runs/bert
  research run experiments/tagging.py:small train=train.conll types=6
  research run experiments/tagging.py:smoke
  research predict runs/tagging --input new.conll --output entities.jsonl
  research predict runs/tagging "Ada Lovelace was born in London."

`train`, `heldout` and `test` are CoNLL files: a word a line, its tag in the last column, an empty
line behind each sentence; `scheme` is IOB1, IOB2 or BIOES. Without `heldout`, a tenth of `train` is
held out. `types` is how many types of entities there are; a wrong number is told the right one.
`start` is a run that was pre-trained or imported. The F1 is that of conlleval and seqeval.

Checked against the paper: the first token of a word says its tag, no other one; dropout 0.1; and
the settings of appendix A.3 as in `classification.py`. `small` is for two cores, from scratch.

Expect: the paper's base has an F1 of 92.4 on CoNLL-2003 (table 7); not measured here. On the Broad
Twitter Corpus (parts a, b, e, g and h; f is held out; each word's most frequent tag has 0.437)
`small` has 0.513 from scratch (types=3 steps=1200), and the encoder that `few_labels.py:pretrain`
makes of 8 MB 0.597 after 720 and 0.588 after 840 of 1,200 updates; it was stopped at 891 (start=RUN
types=3 length=40 steps=1200 peak=0.001). `small` on WNUT-17 (3,394 sentences) does not find its
rare entities from scratch: F1 0.005 on the development set after 400 steps.
"""

import dataclasses

import bert

from research import Eval, Experiment, InitFrom, data, model_of, models, objectives, optim


def experiment(
  train,
  heldout="",
  test="",
  types=4,
  scheme="IOB2",
  start="",
  vocabulary="bert",
  size="base",
  length=128,
  steps=1_500,
  peak=5e-5,
):
  pretraining = bert.experiment(vocabulary, size=size, length=length)
  body = model_of(start).clone(dropout=0.1) if start else pretraining.model
  words = data.FromRun(start) if start else pretraining.data.tokenizer
  given = {
    name: data.CoNLL(path, scheme)
    for name, path in {"train": train, "heldout": heldout, "test": test}.items()
    if path or name == "train"
  }
  tags = objectives.Tags()
  return Experiment(
    name="tagging",
    data=data.Tagged(
      **given,
      tokenizer=words,
      length=length,
      types=types,
    ),
    model=models.Tagger(body, 2 * types + 1, dropout=0.1),
    objective=tags,
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
    evals={"heldout": Eval(tags)} | ({"test": Eval(tags, split="test")} if test else {}),
  )


def small(train, heldout="", test="", types=4, scheme="IOB2", vocab_size=4_000, steps=600):
  """From scratch on a laptop, in minutes."""
  made = experiment(train, heldout, test, types, scheme, size="tiny", length=64, steps=steps)
  return made.vary(
    "small",
    {
      "data.tokenizer": data.SentencePiece(vocab_size, special=data.MARKS),
      "model.body.vocab_size": vocab_size,
      "model.body.dtype": "float32",
      "model.body.remat": "none",
      "optimizer.learning_rate.peak": 1e-3,
    },
  )


def smoke():
  """Keywords, names, numbers and texts in lines of Python: seconds, no download."""
  return small("", vocab_size=600, steps=60).vary(
    "smoke",
    {
      "data.train": data.PythonWords(),
      "data.length": 32,
      "model.body.max_length": 32,
      "model.body.width": 64,
      "optimizer.learning_rate.peak": 3e-3,
      "batch_size": 16,
      "evals.heldout.batches": 8,
    },
  )
