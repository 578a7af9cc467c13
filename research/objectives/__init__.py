"""Functions of a model and a batch; each minimizes its "loss"."""

from research.objectives.contrastive import InfoNCE, Retrieval, SigmoidLoss
from research.objectives.language import NextToken

__all__ = ["InfoNCE", "NextToken", "Retrieval", "SigmoidLoss"]
