"""BERT by its size: table 6 (Devlin et al., 2018, section 5.2).

  research reproduce experiments/ablations/bert_size.py vocabulary=bert/ train=mnli.csv \\
      --workdir runs/bert_size
  research reproduce experiments/ablations/bert_size.py:small --workdir runs/bert_size
  research run experiments/ablations/bert_size.py:smoke

The paper's six sizes are held against one another by their perplexity on held-out masked words,
which is in its table, and by a probe on frozen states, as in bert_tasks.py, where `train` is
explained; the paper's accuracies are fine-tuned. `small` has four sizes on the documentation of
Python.

Expect of `small`: perplexity 304, 286, 258, 241 of a hidden piece, and 0.77, 0.87, 0.91, 0.94 of
the kinds of statements by the probe, from the smallest to the largest: both claims are reproduced.
The paper's perplexities: 5.84, 5.24, 4.68, 3.99, 3.54, 3.23.
`small`: 12 runs, 6 minutes on two cores.
"""

import dataclasses

import bert_tasks

from research.arms import arms
from research.claims import Trend

SIZES = {  # layers, width, heads; as in the table, from the smallest
  "smallest": (3, 768, 12),
  "few_heads": (6, 768, 3),
  "smaller": (6, 768, 12),
  "larger": (12, 768, 12),
  "wide": (12, 1024, 16),
  "largest": (24, 1024, 16),
}
SMALL = {
  "smallest": (1, 32, 2),
  "smaller": (1, 64, 2),
  "larger": (2, 128, 2),
  "largest": (3, 192, 3),
}


def experiment(train, vocabulary="bert", corpus="c4", length=512, pair="", limit=20_000, seeds=3):
  base = bert_tasks.pretraining(train, vocabulary, corpus, length, pair, limit)
  yield from _sizes(base, SIZES, seeds)


def small(steps=280, seeds=3):
  """Four sizes, on text that every machine has: minutes, no download."""
  yield from _sizes(bert_tasks.docs(steps), SMALL, seeds)


def smoke():
  """Two layers, in seconds."""
  return next(_sizes(bert_tasks.tiny(), {"smaller": (2, 32, 4)}, seeds=1))


def _sizes(base, sizes, seeds):
  base = dataclasses.replace(base, name="bert_size")
  variants = {}
  for arm, (depth, width, heads) in sizes.items():
    model = base.model.clone(depth=depth, width=width, heads=heads)
    variants[arm] = {} if model == base.model else {"model": model}
  yield from arms(base, variants, seeds)


def _grows(name, metric, sentence, numbers, **more):
  return Trend(
    name,
    paper="Devlin et al., 2018",
    where="table 6",
    sentence=sentence,
    ordered=tuple(SMALL),
    metric=metric,
    numbers=numbers,
    **more,
  )


CLAIMS = (
  _grows(
    "perplexity",
    "heldout.perplexity",
    "Larger models predict masked words better.",
    (5.84, 4.68, 3.99, 3.23),
    unit="perplexity of a WordPiece",
  ),
  _grows(
    "transfer",
    "probe.accuracy",
    "Larger models serve tasks better, also where there is little to learn from.",
    (0.779, 0.819, 0.844, 0.866),
    unit="accuracy on MNLI-m, fine-tuned",
    lower=False,
  ),
)
