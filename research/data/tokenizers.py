"""The tokenizers to choose from, and how a run's vocabulary is read back."""

from __future__ import annotations

import pathlib

from research.data import vocabulary
from research.data.hugging_face import HuggingFace, HuggingFaceVocabulary
from research.data.sentence_piece import SentencePiece, SentencePieceVocabulary
from research.data.vocabulary import Bytes, ByteVocabulary, Tokenizer, Vocabulary
from research.errors import UserError

__all__ = ["Bytes", "HuggingFace", "SentencePiece", "Tokenizer", "Vocabulary", "load"]


def load(folder: str | pathlib.Path) -> Vocabulary:
  """Reads what `Vocabulary.save` wrote, for example a run's folder `vocabulary`.

  Raises:
    UserError: the folder holds none, or it is damaged.
  """
  match vocabulary.read(folder)["kind"]:
    case "bytes":
      return ByteVocabulary()
    case "sentencepiece":
      return SentencePieceVocabulary.load(folder)
    case "huggingface":
      return HuggingFaceVocabulary.load(folder)
    case other:
      raise UserError(
        f"{folder} holds a vocabulary of unknown kind {other!r}; is it newer than this?"
      )
