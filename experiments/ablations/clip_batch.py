"""Softmax or sigmoid, by the size of the batch (Zhai et al., 2023, section 4.2, figure 2).

  research reproduce experiments/ablations/clip_batch.py table=mine.tsv folder=pictures/ \\
      vocabulary=siglip/ --workdir runs/batch
  research reproduce experiments/ablations/clip_batch.py:small --workdir runs/batch
  research run experiments/ablations/clip_batch.py:smoke

Both losses on the same towers (clip.py's, with the start of siglip.py for the sigmoid: scale 10,
bias -10), in batches of 512 to 32,768; all arms see as many pairs, 450 million where the paper's
see 9 billion. In the paper the sigmoid is better below 32,000, where the two meet, and neither
gains from more. `table` and `folder` are those of clip.py. `small` has batches of 16, 64 and 256
drawn shapes, of the same 25,600 pairs, at learning rates that grow with the root of the batch.

Expect of `small`, right captions: softmax 0.37, 0.42, 0.07, sigmoid 0.22, 0.08, 0.002 (by chance)
in batches of 16, 64 and 256: the opposite of all three claims. 25,600 pairs are 1,600, 400 and 100
updates, and updates are what is short here; the sigmoid takes more of them to begin to learn.
`small`: 18 runs, 10 minutes on two cores.
"""

import dataclasses
import functools

import clip
import clip_objectives

from research.arms import arms
from research.claims import Claim, Trend

LOSSES = ("softmax", "sigmoid")
LARGE, SMALL = (512, 4_096, 32_768), (16, 64, 256)
NAMES = ("small", "middle", "large")  # of the batches


def experiment(
  table="pairs.tsv",
  folder="pictures",
  vocabulary="siglip",
  size="B/16",
  pairs=450_000_000,
  peak=1e-3,
  seeds=3,
):
  base = clip.experiment(table, folder, vocabulary, size, pairs=pairs, epochs=1)
  base = dataclasses.replace(base, name="clip_batch")
  yield from arms(base, _variants(base, LARGE, pairs, peak), seeds)


def small(pairs=25_600, peak=2e-3, seeds=3):
  """Drawn shapes and colours, which need no files: minutes."""
  base = clip_objectives.drawn("clip_batch", steps=pairs // SMALL[-1], batch=SMALL[-1])
  yield from arms(base, _variants(base, SMALL, pairs, peak), seeds)


def smoke():
  """The sigmoid in small batches, in seconds."""
  base = clip_objectives.tiny("clip_batch")
  variants = _variants(base, (8, 16, 32), pairs=32, peak=1e-3)
  return next(arms(base, {"sigmoid_small": variants["sigmoid_small"]}, seeds=1))


def _variants(base, batches, pairs, peak):
  """As many pairs in each, looked at in the middle and at the end."""
  variants = {}
  for loss in LOSSES:
    for name, batch in zip(NAMES, batches):
      steps = pairs // batch
      changes = clip_objectives.sigmoid(base) if loss == "sigmoid" else {}
      changes["evals"] = {
        name: dataclasses.replace(eval, every=max(1, steps // 2))
        for name, eval in changes.get("evals", base.evals).items()
      }
      changes |= {
        "steps": steps,
        "batch_size": batch,
        "save_every": steps,
        "optimizer.learning_rate.peak": peak * (batch / batches[-1]) ** 0.5,
        "optimizer.learning_rate.warmup": max(1, steps // 10),
      }
      variants[f"{loss}_{name}"] = clip_objectives.changed(base, changes)
  return variants


_better = functools.partial(
  Claim,
  paper="Zhai et al., 2023",
  metric="retrieval.image_to_text_at_1",
  lower=False,
)

CLAIMS = (
  _better(
    "small_batches",
    "In small batches the sigmoid is better than the softmax.",
    "sigmoid_small",
    "softmax_small",
    where="section 4.2, figure 2",
  ),
  *(
    Trend(
      f"{loss}_gains",
      paper="Zhai et al., 2023",
      where="figure 2",
      sentence=f"The {loss} gains from larger batches, up to 32,000.",
      ordered=tuple(f"{loss}_{name}" for name in NAMES),
      metric="retrieval.image_to_text_at_1",
      lower=False,
    )
    for loss in LOSSES
  ),
)
