"""One file per paper's architecture."""

from research.models.gpt import GPT
from research.models.ngram import NGram
from research.models.ngram_smoothing import Additive, KneserNey

__all__ = ["GPT", "Additive", "KneserNey", "NGram"]
