"""Tokens and the raw bytes they stand for: what every tokenizer of this folder turns into."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from research.errors import UserError

FILE = "vocabulary.json"  # in the folder of a saved vocabulary, beside the model's own file


class Vocabulary(Protocol):
  """A tokenizer that is ready: text to numbers and back.

  Attributes:
    vocab_size: V.
    end: the end-of-text token, which no text contains.
    begin: the token before a document, which is read first; `end` where it has none of its own.
    bytes_of: (V,) int32, bytes of raw UTF-8 that each token stands for; 0 for end-of-text.
    lossless: decode(encode(text)) == text for every clean text, and the bytes of its tokens add
      up to its own. Otherwise (BERT, CLIP) bytes_of leaves out what the tokens do not spell.
    special: numbers of the tokens that no text contains and that have a name, such as "[CLS]".
    continues: (V,) bool, whether a token goes on with the word of the token before it.
  """

  vocab_size: int
  end: int
  begin: int
  bytes_of: np.ndarray
  lossless: bool
  special: dict[str, int]
  continues: np.ndarray

  def encode(self, text: str) -> np.ndarray:
    """(n,) int32 tokens of `text`; end-of-text is not among them."""

  def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
    """`encode` of many texts, on several threads where the library can."""

  def decode(self, ids: Iterable[int]) -> str:
    """The text of `ids`; end-of-text is silent and broken UTF-8 becomes U+FFFD."""

  def save(self, folder: str | pathlib.Path) -> None:
    """Writes `folder`/vocabulary.json and the model's file, for `tokenizers.load`."""


class Tokenizer(Protocol):
  """A frozen description of a vocabulary, for experiment files."""

  @property
  def vocab_size(self) -> int:
    """V, known before anything is built."""

  def fingerprint(self) -> str:
    """Changes whenever `fit` on the same documents would give another vocabulary."""

  def fit(self, documents: Sequence[str]) -> Vocabulary:
    """Learns from the train split's documents, or only reads what has been learned."""


def join(pieces: Sequence[bytes], ids: Iterable[int]) -> str:
  """The text of tokens whose bytes are known; a number outside the vocabulary is U+FFFD."""
  size = len(pieces)
  data = b"".join(pieces[i] if 0 <= i < size else b"\xef\xbf\xbd" for i in map(int, ids))
  return data.decode("utf-8", "replace")


def continuing(pieces: Sequence[bytes]) -> np.ndarray:
  """(V,) bool: the pieces that begin inside a word, with a letter, a digit or part of either."""
  firsts = (piece.decode("utf-8", "ignore")[:1] for piece in pieces)
  return np.array([bool(piece) and (not c or c.isalnum()) for piece, c in zip(pieces, firsts)])


@dataclasses.dataclass(frozen=True)
class Bytes:
  """The 256 bytes of UTF-8 and end-of-text: nothing to learn, nothing unknown."""

  @property
  def vocab_size(self) -> int:
    return 257

  def fingerprint(self) -> str:
    return "bytes 1"

  def fit(self, documents: Sequence[str] = ()) -> ByteVocabulary:
    del documents
    return ByteVocabulary()


class ByteVocabulary:
  """Token i is byte i; 256 is end-of-text."""

  vocab_size = 257
  end = begin = 256
  lossless = True

  def __init__(self):
    self.bytes_of = np.ones(257, np.int32)
    self.bytes_of[256] = 0
    self._pieces = [bytes([i]) for i in range(256)] + [b""]
    self.special: dict[str, int] = {}
    self.continues = continuing(self._pieces)

  def encode(self, text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int32)

  def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
    return [self.encode(text) for text in texts]

  def decode(self, ids: Iterable[int]) -> str:
    return join(self._pieces, ids)

  def save(self, folder: str | pathlib.Path) -> None:
    write(folder, {"kind": "bytes"})


def write(folder: str | pathlib.Path, description: dict, files: dict[str, bytes] | None = None):
  """Writes a vocabulary's description and its model files, with a digest of both."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  for name, data in (files or {}).items():
    (folder / name).write_bytes(data)
  description = {**description, "files": {n: _digest(data) for n, data in (files or {}).items()}}
  description["digest"] = _digest(json.dumps(description, sort_keys=True).encode())
  (folder / FILE).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def read(folder: str | pathlib.Path) -> dict:
  """The description of a saved vocabulary.

  Raises:
    UserError: the folder holds none, or it or one of its files is not what was written.
  """
  path = pathlib.Path(folder) / FILE
  try:
    description = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    raise UserError(
      f"{folder} holds no vocabulary ({FILE} is missing); give the folder `vocabulary` of a run"
    ) from None
  except (ValueError, RecursionError, OSError) as error:
    raise UserError(f"{path} is damaged ({error}); copy it from the run again") from None
  if not isinstance(description, dict) or not isinstance(description.get("kind"), str):
    raise UserError(f"{path} does not name its kind; copy it from the run again")
  # Those that were saved before there were digests have none.
  if (digest := description.pop("digest", None)) is not None:
    if digest != _digest(json.dumps(description, sort_keys=True).encode()):
      raise UserError(f"{path} is not what was written; copy it from the run again")
    for name, wanted in description["files"].items():
      file = path.parent / name
      try:
        found = _digest(file.read_bytes())
      except OSError as error:
        raise UserError(
          f"{file} cannot be read ({error.strerror}); copy it from the run again"
        ) from None
      if found != wanted:
        raise UserError(f"{file} is not what was written; copy it from the run again")
  return description


def _digest(data: bytes) -> str:
  return hashlib.blake2b(data, digest_size=16).hexdigest()
