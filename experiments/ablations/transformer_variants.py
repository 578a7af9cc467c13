"""What the Transformer's parts are worth: rows of table 3 (Vaswani et al., 2017).

  research reproduce experiments/ablations/transformer_variants.py source=FILE target=FILE \\
      heldout_source=FILE heldout_target=FILE --workdir runs/variants
  research reproduce experiments/ablations/transformer_variants.py:small --workdir runs/variants
  research run experiments/ablations/transformer_variants.py:smoke

The files are those of transformer.py. Each arm is `base` with one thing changed, as in the table:
heads (row A: their keys and values shrink as they become more), the size of keys (B; here values
shrink with them), depth, width and MLPs (C), dropout and label smoothing (D), learned positions
(E), which the paper finds nearly identical with sinusoidal ones. `small` translates names of
Unicode's characters into the characters, with a base of two layers, 96 wide with 8 heads, dropout
0.1 and smoothing 0.1, on 200 kB of them.

Expect of `small`, perplexity of a character: base 6.06, one head 7.73, small keys 6.97, shallow
6.26, narrow 7.86, no dropout 4.90, no smoothing 5.66, learned positions 6.41. Keys, width and
smoothing are reproduced; dropout is not, since 350 updates overfit nothing; heads, depth and
positions are open, the first two on the paper's side. Cost by the authors: half a day on 8 P100 for
each run of `experiment`.
`small`: 24 runs, 10 minutes on two cores.
"""

import dataclasses
import functools

import transformer

from research import Eval, data, objectives, optim
from research.arms import arms
from research.claims import Alike, Claim

NARROW, WIDE = (
  {"model.width": width, "optimizer.learning_rate.width": width} for width in (256, 1024)
)
VARIANTS = {
  "base": {},
  "one_head": {"model.heads": 1},
  "heads_4": {"model.heads": 4},
  "heads_16": {"model.heads": 16},
  "heads_32": {"model.heads": 32},
  "small_keys": {"model.key_size": 16},
  "keys_32": {"model.key_size": 32},
  "shallow": {"model.depth": 2},
  "depth_4": {"model.depth": 4},
  "depth_8": {"model.depth": 8},
  "narrow": NARROW,
  "wide": WIDE,
  "small_mlp": {"model.hidden": 1024},
  "large_mlp": {"model.hidden": 4096},
  "no_dropout": {"model.dropout": 0.0},
  "dropout_0.2": {"model.dropout": 0.2},
  "no_smoothing": {"objective.label_smoothing": 0.0},
  "smoothing_0.2": {"objective.label_smoothing": 0.2},
  "learned_positions": {"model.positions": "learned"},
}
SMALL = {
  "base": {},
  "one_head": {"model.heads": 1},
  "small_keys": {"model.key_size": 2},
  "shallow": {"model.depth": 1},
  "narrow": {"model.width": 48},
  "no_dropout": {"model.dropout": 0.0},
  "no_smoothing": {"objective.label_smoothing": 0.0},
  "learned_positions": {"model.positions": "learned"},
}


def experiment(source, target, heldout_source="", heldout_target="", vocab_size=37_000, seeds=3):
  base = transformer.experiment(
    source, target, heldout_source, heldout_target, vocab_size=vocab_size
  )
  yield from arms(dataclasses.replace(base, name="transformer_variants"), VARIANTS, seeds)


def small(steps=350, seeds=3):
  """The rows with a claim, from names of characters to the characters: minutes, no download."""
  yield from arms(names(steps), SMALL, seeds)


def smoke():
  """Learned positions, in seconds."""
  tiny = {"data.limit": 50_000, "model.width": 16, "model.hidden": 16, "batch_size": 8}
  base = names(steps=4).vary("smoke", {**tiny, "evals.heldout.batches": 2})
  return next(arms(base, {"learned_positions": SMALL["learned_positions"]}, seeds=1))


def names(steps):
  """Names of characters to the characters, with a base of two layers."""
  base = dataclasses.replace(
    transformer.experiment("", ""),
    name="transformer_variants",
    data=data.Translations(data.UnicodeNames(), data.Bytes(), 16, 64, limit=200_000),
    optimizer=optim.AdamW(
      optim.InverseSquareRoot(warmup=max(1, steps // 5), peak=3e-3), b2=0.98, eps=1e-9
    ),
    steps=steps,
    batch_size=32,
    average=None,
    evals={"heldout": Eval(objectives.TargetToken(), every=max(1, steps // 2))},
    save_every=steps,
  )
  model = base.model.clone(
    vocab_size=264,
    max_length=64,
    width=96,
    depth=2,
    hidden=192,
    dtype="float32",
    remat="none",
  )
  return dataclasses.replace(base, model=model)


_row = functools.partial(
  Claim,
  paper="Vaswani et al., 2017",
  metric="heldout.perplexity",
  unit="perplexity of a word piece, newstest2013",
)

CLAIMS = (
  _row(
    "heads",
    "One head is worse than eight.",
    "base",
    "one_head",
    (4.92, 5.29),
    where="table 3, row A",
  ),
  _row(
    "keys",
    "Smaller keys hurt (here values are smaller as well).",
    "base",
    "small_keys",
    (4.92, 5.16),
    where="table 3, row B",
  ),
  _row("depth", "More layers are better.", "base", "shallow", (4.92, 6.11), where="table 3, row C"),
  _row("width", "Wider models are better.", "base", "narrow", (4.92, 5.75), where="table 3, row C"),
  _row(
    "dropout",
    "Dropout avoids overfitting.",
    "base",
    "no_dropout",
    (4.92, 5.77),
    where="table 3, row D",
  ),
  _row(
    "smoothing",
    "Label smoothing hurts perplexity.",
    "no_smoothing",
    "base",
    (4.67, 4.92),
    where="table 3, row D and section 5.4",
  ),
  Alike(
    "positions",
    "Learned positions come to the same as sinusoidal ones.",
    "base",
    "learned_positions",
    (4.92, 4.92),
    within=0.016,  # as four heads differ from eight in row A, 5.00 from 4.92
    paper="Vaswani et al., 2017",
    where="table 3, row E",
    metric="heldout.perplexity",
    unit="perplexity of a word piece, newstest2013",
  ),
)
