"""CLIP's temperature: learned, or fixed (Radford et al., 2021, section 2.5).

  research reproduce experiments/ablations/clip_temperature.py table=mine.tsv folder=pictures/ \\
      vocabulary=clip/ --workdir runs/temperature
  research reproduce experiments/ablations/clip_temperature.py:small --workdir runs/temperature
  research run experiments/ablations/clip_temperature.py:smoke

The paper learns it, so that it is no number to choose: one over it starts at 14.3 and is at most
100. The other arms leave it where it is: at 1, where cosines can say little (at best a caption has
e^2 times the probability of its opposite), and at that bound. `table`, `folder` and `vocabulary`
are those of clip.py; a picture looks for its own captions among those of all that are held out.

Expect of `small`: learned 0.50 of right captions (0.59, 0.59, 0.32), at 1 0.04, at the bound 0.39:
the first is reproduced, +0.46 (0.05 to 0.86), the second open, +0.11 (-0.32 to 0.55), since a run
sits on a plateau that it leaves sooner or later. The paper has no figures.
`small`: 9 runs, 7 minutes on two cores.
"""

import dataclasses
import functools

import clip
import clip_objectives

from research.arms import arms
from research.claims import Claim

FIXED = {"optimizer.groups.frozen": ("^log_scale$",)}
ARMS = {
  "learned": {},
  "fixed_1": {**FIXED, "model.temperature": 1.0},
  "fixed_100": {**FIXED, "model.temperature": 0.01},
}


def experiment(
  table="pairs.tsv", folder="pictures", vocabulary="clip", size="B/32", pairs=400_000_000, seeds=3
):
  base = clip.experiment(table, folder, vocabulary, size, pairs=pairs, epochs=1)
  yield from arms(dataclasses.replace(base, name="clip_temperature"), ARMS, seeds)


def small(steps=400, seeds=3):
  """Drawn shapes and colours, which need no files: minutes."""
  yield from arms(clip_objectives.drawn("clip_temperature", steps), ARMS, seeds)


def smoke():
  """A fixed temperature, in seconds."""
  return next(arms(clip_objectives.tiny("clip_temperature"), {"fixed_1": ARMS["fixed_1"]}, seeds=1))


_better = functools.partial(
  Claim,
  paper="Radford et al., 2021",
  where="sections 2.3 and 2.5, without figures",
  metric="retrieval.image_to_text_at_1",
  lower=False,
)

CLAIMS = (
  _better("not_1", "Cosines as they are tell pairs apart too softly.", "learned", "fixed_1"),
  _better("not_100", "Learning it is better than fixing it at its bound.", "learned", "fixed_100"),
)
