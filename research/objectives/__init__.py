"""Functions of a model and a batch; each minimizes its "loss"."""

from research.objectives.classification import Label, LabelAndNextToken, LabelScores
from research.objectives.contrastive import InfoNCE, SigmoidLoss
from research.objectives.entities import Tags
from research.objectives.health import PairHealth
from research.objectives.language import NextToken, TargetToken
from research.objectives.masked import MaskedToken, MaskedTokenAndNextSentence
from research.objectives.spans import Span
from research.objectives.word_bag import WordBag

__all__ = [
  "InfoNCE",
  "Label",
  "LabelAndNextToken",
  "LabelScores",
  "MaskedToken",
  "MaskedTokenAndNextSentence",
  "NextToken",
  "PairHealth",
  "SigmoidLoss",
  "Span",
  "Tags",
  "TargetToken",
  "WordBag",
]
