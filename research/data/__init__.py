"""From files to batches. Everything here is a frozen value that opens nothing when constructed.

documents    TFDS, Files
tokenizers   Bytes, SentencePiece, HuggingFace; `load_vocabulary` reads a run's
splits       ByHash, Tail, Column
datasets     Text, SentencePairs, ImageText, Shapes
batches      batches (endless, shuffled), epoch (once, in order)
preview      what a dataset looks like
"""

from research.data.files import Files
from research.data.image_text import Column, ImageText
from research.data.pipeline import Batch, Dataset, Source, batches, epoch
from research.data.preview import picture, preview
from research.data.sentence_pairs import MARKS, SentencePairs
from research.data.shapes import Shapes
from research.data.splits import ByHash, Tail
from research.data.text import PreparedText, Text
from research.data.tfds import TFDS
from research.data.tokenizers import Bytes, HuggingFace, SentencePiece, Vocabulary
from research.data.tokenizers import load as load_vocabulary

__all__ = [
  "MARKS",
  "TFDS",
  "Batch",
  "ByHash",
  "Bytes",
  "Column",
  "Dataset",
  "Files",
  "HuggingFace",
  "ImageText",
  "PreparedText",
  "SentencePairs",
  "SentencePiece",
  "Shapes",
  "Source",
  "Tail",
  "Text",
  "Vocabulary",
  "batches",
  "epoch",
  "load_vocabulary",
  "picture",
  "preview",
]
