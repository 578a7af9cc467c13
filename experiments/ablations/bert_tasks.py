"""Which of BERT's tasks teach it: rows of table 5 (Devlin et al., 2018, section 5.1).

  research reproduce experiments/ablations/bert_tasks.py vocabulary=bert/ train=mnli.csv \\
      --workdir runs/bert_tasks
  research run experiments/ablations/bert_tasks.py:finetune vocabulary=bert/ train=mnli.csv \\
      labels=3 pair=text2 --workdir runs/bert_finetuned
  research reproduce experiments/ablations/bert_tasks.py:small --workdir runs/bert_tasks
  research run experiments/ablations/bert_tasks.py:smoke

Three arms, as in the paper: both tasks; no next sentence; left to right without it, a decoder of
the same layers on the same text ("LTR & No NSP"). `train` is a table as those of classification.py
(`pair` names the column of a second text). The arms are compared by a probe, logistic regression on
frozen states (section 5.3), so that one run tells; the paper fine-tunes, as `finetune` does with
what `experiment` has left in its folder, three epochs of MNLI (no claim looks at its figures). A
decoder also lacks BERT's norm of the embeddings, and reads full rows of text. `small` is the
`pretrain` of bert.py, on the documentation of Python; its probe tells kinds of statements.

Expect of `small`: 0.915, 0.914 and 0.915 of the kinds of statements by the probe: both claims are
open, since it tells them from little (could see 0.026 and 0.12). The paper's MNLI-m: 84.4 %, 83.9
%, 82.1 %, fine-tuned.
`small`: 9 runs, 8 minutes on two cores.
"""

import dataclasses
import functools

import bert
import classification

from research import InitFrom, data, models, objectives
from research.arms import arms
from research.claims import Claim
from research.text_probe import TextProbe

BOTH, WORDS, LEFT = "both_tasks", "no_next_sentence", "left_to_right"


def experiment(train, vocabulary="bert", corpus="c4", length=512, pair="", limit=20_000, seeds=3):
  yield from _tasks(pretraining(train, vocabulary, corpus, length, pair, limit), seeds)


def finetune(
  train,
  pretrained="runs/bert_tasks",
  vocabulary="bert",
  labels=2,
  pair="",
  heldout="",
  length=512,
  steps=36_800,
  seeds=3,
):
  """Each run of `experiment`, of the same `length`, fine-tuned on a table: the paper's way."""
  made = classification.experiment(
    train, heldout, labels=labels, pair=pair, vocabulary=vocabulary, steps=steps
  )
  encoder = bert.experiment(vocabulary, length=length).model
  encoded = made.model.clone(body=encoder)
  decoded = models.GPTClassifier(_leftward(encoder), labels, dropout=0.1)
  head = ("^head/",)
  for seed in range(seeds):
    for arm, model, new in (
      (BOTH, encoded, head),
      (WORDS, encoded, (*head, "pooler")),  # which nothing has trained
      (LEFT, decoded, head),
    ):
      start = f"{pretrained}/bert_tasks/{arm}/seed_{seed}"
      yield dataclasses.replace(
        made,
        name=f"bert_tasks_finetuned/{arm}/seed_{seed}",
        model=model,
        seed=seed,
        init_from=InitFrom(start, parts=(("body/", ""),), new=new, unused=("_head/",)),
      )


def small(steps=600, seeds=3):
  """Two layers on text that every machine has: minutes, no download."""
  yield from _tasks(docs(steps), seeds)


def smoke():
  """Left to right, in seconds."""
  *_, left = _tasks(tiny(), seeds=1)
  return left


def pretraining(
  train, vocabulary="bert", corpus="c4", length=512, pair="", limit=20_000, size="base"
):
  """BERT, probed with the texts of a table: what all arms of its ablations vary."""
  table = data.LabelledFile(train, pair=pair or None)
  probe = TextProbe(table, 128, data.BERT_MARKS, data.ByHash(heldout=0.05), limit)
  return _probed(bert.experiment(vocabulary, corpus, size, length), probe)


def docs(steps=600, size="tiny", length=64, vocab_size=2_048):
  """The same in small: which kind of statement a line of Python is, by what follows its first word.

  What is read is documentation, in which these lines do not stand.
  """
  base = bert.pretrain(size=size, length=length, steps=steps, vocab_size=vocab_size)
  probe = TextProbe(data.PythonLines(), 32, data.BERT_MARKS, data.ByHash(heldout=0.25))
  return _probed(dataclasses.replace(base, save_every=steps), probe)


def tiny():
  """The smallest, for the smokes."""
  fewer = {"evals.probe.limit": 64, "evals.probe.split": data.ByHash(heldout=0.02)}
  model = {"model.width": 16, "model.depth": 1}
  base = docs(steps=4, length=32, vocab_size=512)
  return base.vary("tiny", {"data.limit": 100_000, "batch_size": 8, **model, **fewer})


def _probed(base, probe):
  """With the probe at the end of the run."""
  evals = {"probe": dataclasses.replace(probe, every=base.steps), **base.evals}
  return dataclasses.replace(base, name="bert", evals=evals)


def _tasks(base, seeds):
  """The three arms."""
  base = dataclasses.replace(base, name="bert_tasks")
  words, next_token = objectives.MaskedToken(), objectives.NextToken()
  pairs = base.data
  text = data.Text(
    pairs.documents, pairs.tokenizer, pairs.length, split=pairs.split, limit=pairs.limit
  )
  variants = {
    BOTH: {},
    WORDS: {"objective": words, "evals.heldout.objective": words},
    LEFT: {
      "data": text,
      "model": _leftward(base.model),
      "objective": next_token,
      "evals.heldout.objective": next_token,
      "evals.probe.marks": (None, None, None),
    },
  }
  yield from arms(base, variants, seeds)


def _leftward(encoder):
  """A decoder of the encoder's layers, whose tokens see those before them, without segments."""
  return models.GPT(
    encoder.vocab_size,
    encoder.max_length,
    encoder.width,
    encoder.depth,
    encoder.heads,
    norm_position="post",
    activation=encoder.activation,
    dropout=encoder.dropout,
    epsilon=encoder.epsilon,
    dtype=encoder.dtype,
    remat=encoder.remat,
  )


_says = functools.partial(
  Claim,
  paper="Devlin et al., 2018",
  where="table 5",
  metric="probe.accuracy",
  lower=False,
  unit="accuracy on MNLI-m, fine-tuned",
)

CLAIMS = (
  _says("next_sentence", "The next sentence helps.", BOTH, WORDS, (0.844, 0.839)),
  _says("both_sides", "Left to right is worse than masked words.", WORDS, LEFT, (0.839, 0.821)),
)
