"""A decoder learns tasks by reading alone: figure 2, right (Radford et al., 2018, section 5).

  research reproduce experiments/ablations/gpt1_zero_shot.py table=sst2.csv --workdir runs/zero_shot
  research reproduce experiments/ablations/gpt1_zero_shot.py:small --workdir runs/zero_shot
  research run experiments/ablations/gpt1_zero_shot.py:smoke

The paper asks a model that is not fine-tuned, and follows its answers over pre-training: of the
labels of SST-2, put behind the text and the word "very", the likelier one counts. Here each arm is
a run of its own, with 1/64 to all of the updates, so that the learning rate of each has come down.
`table` is one as those of classification.py, `form` says where text and label stand, and 0 and 1
are called negative and positive. `small` puts the kind of a statement before the rest of a line of
Python, after reading other files of the standard library.

Expect of `small`: 0.37, 0.36, 0.43, 0.48 of the kinds of statements after 7, 28, 112 and 448
updates (+0.042 from each to the next, -0.013 to 0.097: open). In the paper the accuracy on SST-2,
relative to what fine-tuning reaches and to chance, rises steadily.
`small`: 12 runs, 6 minutes on two cores.
"""

import dataclasses

import gpt1
import gpt1_transfer

from research import data
from research.arms import arms
from research.claims import Trend
from research.in_context import InContext

PARTS = {"shortest": 64, "shorter": 16, "longer": 4, "longest": 1}
NAMES = (("0", "negative"), ("1", "positive"))


def experiment(table, corpus="c4", form="{text} very {label}\n", names=NAMES, seeds=3):
  problems = data.WhichLabel(data.LabelledFile(table), form, names)
  yield from _parts(gpt1.experiment(corpus), problems, 1_000, seeds)


def small(steps=448, seeds=3):
  """Which kind of statement a line of Python is, asked of who has read Python: minutes."""
  yield from _parts(gpt1_transfer.pretrain(steps), _kinds(), 500, seeds)


def smoke():
  """A part of a short run, in seconds."""
  base = gpt1_transfer.pretrain(steps=64, width=64, depth=1, length=64, limit=200_000).vary(
    "smoke", {"batch_size": 8, "evals.heldout.batches": 2}
  )
  return list(_parts(base, _kinds(), limit=16, seeds=1))[1]


def _kinds():
  return data.WhichLabel(data.PythonLines(), "{label} {text}\n")


def _parts(base, problems, limit, seeds):
  asked = InContext(problems, shots=(0,), limit=limit, every=base.steps)
  base = dataclasses.replace(
    base,
    name="gpt1_zero_shot",
    evals={"zero_shot": asked, **base.evals},
  )
  yield from arms(base, {arm: _shortened(base, part) for arm, part in PARTS.items()}, seeds)


def _shortened(base, part):
  """A run of so small a part of the updates, with the same part of warmup."""
  if part == 1:
    return {}
  warmup = max(1, base.optimizer.learning_rate.warmup // part)
  return {"steps": base.steps // part, "optimizer.learning_rate.warmup": warmup}


CLAIMS = (
  Trend(
    "zero_shot",
    paper="Radford et al., 2018",
    where="figure 2, right",
    sentence="What is answered without fine-tuning rises steadily over pre-training.",
    ordered=tuple(PARTS),
    metric="zero_shot.accuracy_0",
    lower=False,
  ),
)
