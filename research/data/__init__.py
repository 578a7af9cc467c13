"""From files to batches. Everything here is a frozen value that opens nothing when constructed.

documents    TFDS, Files, Sources
pairs        LineAligned, PairFiles, UnicodeNames
tokenizers   Bytes, SentencePiece, HuggingFace, FromRun; `load_vocabulary` reads a run's
splits       ByHash, Tail, Column
datasets     Text, SentencePairs, Translations, SpanCorruption
pictures     ImageText; of Captioned, CaptionedArray, CaptionedTFDS, WebDataset; Glyphs, of which
             Characters are classes; Shapes
augmentation SquareCrop, ResizedCrop, Flip, Colour
tasks        Labelled, Tagged, Questions, Summaries; of LabelledFile, CoNLL, SQuAD, SummaryFile,
             PythonLines, ...
problems     ProblemFile, WhichLabel, SymbolMaps: for a decoder to answer
batches      batches (endless, shuffled), epoch (once, in order)
preview      what a dataset looks like
"""

from research.data.augmentation import Colour, Flip, ResizedCrop, SquareCrop
from research.data.captioned import Captioned
from research.data.captioned_array import CaptionedArray
from research.data.captioned_tfds import CaptionedTFDS
from research.data.files import Files
from research.data.from_run import FromRun
from research.data.glyph_classes import Characters
from research.data.glyphs import Glyphs
from research.data.image_text import Column, ImageText
from research.data.labelled import BERT_MARKS, Labelled, LabelledFile
from research.data.labels import Labels
from research.data.parallel import LineAligned, PairFiles, UnicodeNames
from research.data.pipeline import Batch, Dataset, Source, batches, epoch
from research.data.preview import picture, preview
from research.data.problems import ProblemFile, WhichLabel
from research.data.python_tasks import PythonLines, PythonQuestions, PythonSummaries, PythonWords
from research.data.questions import Questions
from research.data.sentence_pairs import MARKS, SentencePairs
from research.data.shapes import Shapes
from research.data.span_corruption import SENTINELS, SpanCorruption
from research.data.splits import ByHash, Tail
from research.data.squad import SQuAD
from research.data.summaries import Sources, Summaries, SummaryFile
from research.data.symbol_maps import SymbolMaps
from research.data.tagged import CoNLL, Tagged
from research.data.text import PreparedText, Text
from research.data.tfds import TFDS
from research.data.tokenizers import Bytes, HuggingFace, SentencePiece, Vocabulary
from research.data.tokenizers import load as load_vocabulary
from research.data.translations import PreparedTranslations, Translations
from research.data.web_dataset import WebDataset

__all__ = [
  "BERT_MARKS",
  "MARKS",
  "SENTINELS",
  "TFDS",
  "Batch",
  "ByHash",
  "Bytes",
  "Captioned",
  "CaptionedArray",
  "CaptionedTFDS",
  "Characters",
  "CoNLL",
  "Colour",
  "Column",
  "Dataset",
  "Files",
  "Flip",
  "FromRun",
  "Glyphs",
  "HuggingFace",
  "ImageText",
  "Labelled",
  "LabelledFile",
  "Labels",
  "LineAligned",
  "PairFiles",
  "PreparedText",
  "PreparedTranslations",
  "ProblemFile",
  "PythonLines",
  "PythonQuestions",
  "PythonSummaries",
  "PythonWords",
  "Questions",
  "ResizedCrop",
  "SQuAD",
  "SentencePairs",
  "SentencePiece",
  "Shapes",
  "Source",
  "Sources",
  "SpanCorruption",
  "SquareCrop",
  "Summaries",
  "SummaryFile",
  "SymbolMaps",
  "Tagged",
  "Tail",
  "Text",
  "Translations",
  "UnicodeNames",
  "Vocabulary",
  "WebDataset",
  "WhichLabel",
  "batches",
  "epoch",
  "load_vocabulary",
  "picture",
  "preview",
]
