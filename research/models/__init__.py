"""One file per paper's architecture."""

from research.models.bert import BERT
from research.models.classifier import Classifier
from research.models.clip import CLIP
from research.models.gpt import GPT
from research.models.gpt_classifier import GPTClassifier
from research.models.image_words import ImageWords
from research.models.ngram import NGram
from research.models.ngram_smoothing import Additive, KneserNey
from research.models.reader import Reader
from research.models.tagger import Tagger
from research.models.transformer import Transformer
from research.models.vit import ViT

__all__ = [
  "BERT",
  "CLIP",
  "GPT",
  "Additive",
  "Classifier",
  "GPTClassifier",
  "ImageWords",
  "KneserNey",
  "NGram",
  "Reader",
  "Tagger",
  "Transformer",
  "ViT",
]
