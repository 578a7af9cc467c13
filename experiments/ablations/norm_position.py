"""Norms before or after the residual sum, with warmup and without (Xiong et al., 2020).

  research reproduce experiments/ablations/norm_position.py source=FILE target=FILE \\
      heldout_source=FILE heldout_target=FILE --workdir runs/norms
  research reproduce experiments/ablations/norm_position.py:small --workdir runs/norms
  research run experiments/ablations/norm_position.py:smoke

The paper translates IWSLT 2014 German to English (section 3.2, figure 2): with norms after the sums
the last layers' gradients are large at the start, and a Transformer that begins at its full
learning rate ends far behind; with norms before the sums the warmup can go (section 4.1). Four arms
at the paper's rate, 1e-3 after 4,000 updates of warmup or from the first one on. Ours: the rate
falls in a line from its highest to the end, where theirs falls with the root of the updates; the
base is that of transformer.py, and the paper's is half as wide. `small` learns the documentation of
Python with a decoder of twelve layers, 64 wide; with norms before the sums it is GPT-2's in that
the residual stream begins with smaller projections as well.

Expect: not measured yet. The paper's BLEU without warmup, after the sums: 8.45 (figure 2).
`small`: 12 runs, about 15 minutes on two free cores, as estimated.
"""

import dataclasses
import functools

import gpt1
import transformer

from research import Eval, data, objectives, optim
from research.arms import arms
from research.claims import Claim

PRE = {"model.norm_position": "pre"}
AT_ONCE = {"optimizer.learning_rate.warmup": 0}
ARMS = {
  "post_warmup": {},
  "post_at_once": AT_ONCE,
  "pre_warmup": PRE,
  "pre_at_once": {**PRE, **AT_ONCE},
}


def experiment(source, target, heldout_source="", heldout_target="", peak=1e-3, seeds=3):
  base = transformer.experiment(
    source, target, heldout_source, heldout_target, vocab_size=10_000, length=256
  )
  base = dataclasses.replace(
    base,
    name="norm_position",
    optimizer=dataclasses.replace(
      base.optimizer, learning_rate=optim.Linear(peak, warmup=4_000), b2=0.98
    ),
    steps=50_000,
  )
  yield from arms(base, ARMS, seeds)


def small(steps=200, peak=3e-3, seeds=3):
  """A deep and narrow decoder on text that every machine has: minutes."""
  yield from arms(_docs(steps, peak), ARMS, seeds)


def smoke():
  """Norms after the sums and no warmup, in seconds."""
  tiny = {"data.limit": 100_000, "model.depth": 2, "model.width": 16, "batch_size": 8}
  base = _docs(steps=4, peak=1e-3).vary("smoke", {**tiny, "evals.heldout.batches": 2})
  return next(arms(base, {"post_at_once": AT_ONCE}, seeds=1))


def _docs(steps, peak):
  base = gpt1.experiment(length=64, width=64, depth=12, steps=steps, peak=peak, batch_size=32)
  tokens = data.SentencePiece(1024)
  next_token = objectives.NextToken()
  return dataclasses.replace(
    base,
    name="norm_position",
    data=data.Text(data.TFDS("python_docs"), tokens, 64),
    model=base.model.clone(vocab_size=1024, heads=2, dropout=0.0, layers="scan"),
    optimizer=optim.AdamW(optim.Linear(peak, warmup=max(1, steps // 5)), b2=0.98),
    evals={"heldout": Eval(next_token, batches=32, every=max(1, steps // 3))},
    save_every=steps,
  )


_says = functools.partial(
  Claim,
  paper="Xiong et al., 2020",
  metric="heldout.loss",
)

CLAIMS = (
  _says(
    "post_needs_warmup",
    "With norms after the sums, training without warmup ends far behind.",
    "post_warmup",
    "post_at_once",
    where="section 3.2, figure 2",
  ),
  _says(
    "pre_goes_without",
    "Without warmup, norms before the sums are far better than after them.",
    "pre_at_once",
    "post_at_once",
    where="section 4.1",
  ),
)
