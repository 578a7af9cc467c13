"""Optimizers and learning rates: frozen values that stand unbuilt in an experiment.

  optim.AdamW(optim.Cosine(3e-4, warmup=100), weight_decay=0.1, clip=1.0).build(steps)

schedules    the learning rate of every update: Constant, Linear, Cosine, InverseSquareRoot, ...
optimizers   AdamW, Adafactor, Lion, Muon, SGD; all take a learning rate, a decay, a clip, groups
groups       Groups: which parameters decay, are frozen, or learn at another rate, by their paths;
             all_but, layerwise
given        what a program is told of its optimizer when it runs
descent      what all optimizers share: clip, decay, learning rates, freezing
muon         orthogonalized momentum, layer by layer
adafactor    factored second moments, layer by layer
average      the moving average of parameters that evaluations may use
"""

from research.optim.average import average
from research.optim.given import given
from research.optim.groups import USUAL, Groups, all_but, layerwise, merge
from research.optim.optimizers import SGD, Adafactor, AdamW, Lion, Muon, describe
from research.optim.schedules import (
  Constant,
  Cosine,
  InverseSquareRoot,
  Linear,
  Schedule,
  WarmupStableDecay,
  learning_rate,
)

__all__ = [
  "SGD",
  "USUAL",
  "Adafactor",
  "AdamW",
  "Constant",
  "Cosine",
  "Groups",
  "InverseSquareRoot",
  "Linear",
  "Lion",
  "Muon",
  "Schedule",
  "WarmupStableDecay",
  "all_but",
  "average",
  "describe",
  "given",
  "layerwise",
  "learning_rate",
  "merge",
]
