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
base is that of transformer.py, and the paper's is half as wide. `small` translates names of
characters, as transformer_variants.py does, with three layers and three.

Expect of `small`, nats of a character, five seeds, two of which were added when three had left it
open: norms after the sums 2.06 with warmup and 2.18 without it (+0.117, 0.056 to 0.178:
reproduced), before them and without it 2.05 (+0.131, 0.075 to 0.187: reproduced). The paper's BLEU
without warmup, after the sums: 8.45 (figure 2).
`small`: 15 runs, 7 minutes on two cores.
"""

import dataclasses
import functools

import transformer
import transformer_variants

from research import optim
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


def small(steps=350, peak=3e-3, seeds=5):
  """Names of characters to the characters: minutes, no download."""
  yield from arms(_names(steps, peak), ARMS, seeds)


def smoke():
  """Norms after the sums and no warmup, in seconds."""
  tiny = {"data.limit": 50_000, "model.depth": 2, "model.width": 16, "model.hidden": 16}
  few = {"batch_size": 8, "evals.heldout.batches": 2}
  base = _names(steps=4, peak=1e-3).vary("smoke", {**tiny, **few})
  return next(arms(base, {"post_at_once": AT_ONCE}, seeds=1))


def _names(steps, peak):
  base = transformer_variants.names(steps)
  return dataclasses.replace(
    base,
    name="norm_position",
    model=base.model.clone(width=64, depth=3, hidden=128, heads=4),
    optimizer=optim.AdamW(optim.Linear(peak, warmup=max(1, steps // 5)), b2=0.98, eps=1e-9),
    evals={"heldout": dataclasses.replace(base.evals["heldout"], every=max(1, steps // 5))},
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
