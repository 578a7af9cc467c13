"""Functions of a model and a batch; each minimizes its "loss"."""

from research.objectives.language import NextToken

__all__ = ["NextToken"]
