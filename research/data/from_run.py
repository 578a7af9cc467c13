"""The vocabulary of another run, for what is trained further: nothing is learned."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence

from research.data import tokenizers, vocabulary
from research.data.vocabulary import Vocabulary
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class FromRun:
  """The tokenizer that a run was trained with, or imported with; a `Tokenizer`.

  Attributes:
    run: its folder.
  """

  run: str

  @property
  def vocab_size(self) -> int:
    return self.fit().vocab_size

  def fingerprint(self) -> str:
    contents = json.dumps(vocabulary.read(self._folder()), sort_keys=True)
    return f"run 1 {hashlib.blake2b(contents.encode(), digest_size=16).hexdigest()}"

  def fit(self, documents: Sequence[str] = ()) -> Vocabulary:
    """Reads it.

    Raises:
      UserError: the folder holds no vocabulary, or a damaged one.
    """
    del documents
    return tokenizers.load(self._folder())

  def _folder(self) -> pathlib.Path:
    folder = pathlib.Path(self.run) / "vocabulary"
    if not folder.is_dir():
      raise UserError(
        f"{self.run} holds no vocabulary; give the folder of a run that was trained on text, or "
        "imported with its tokenizer."
      )
    return folder
