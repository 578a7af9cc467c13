"""One file per paper's architecture."""

from research.models.bert import BERT
from research.models.clip import CLIP
from research.models.gpt import GPT
from research.models.ngram import NGram
from research.models.ngram_smoothing import Additive, KneserNey
from research.models.transformer import Transformer
from research.models.vit import ViT

__all__ = ["BERT", "CLIP", "GPT", "Additive", "KneserNey", "NGram", "Transformer", "ViT"]
