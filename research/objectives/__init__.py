"""Functions of a model and a batch; each minimizes its "loss"."""

from research.objectives.contrastive import InfoNCE, Retrieval, SigmoidLoss
from research.objectives.language import NextToken, TargetToken
from research.objectives.masked import MaskedToken, MaskedTokenAndNextSentence

__all__ = [
  "InfoNCE",
  "MaskedToken",
  "MaskedTokenAndNextSentence",
  "NextToken",
  "Retrieval",
  "SigmoidLoss",
  "TargetToken",
]
