"""Published vocabularies, read by the `tokenizers` library: tokenizer.json, GPT-2, CLIP, BERT."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Sequence

import numpy as np

from research.data import published, vocabulary
from research.data.sentence_piece import SentencePieceVocabulary
from research.errors import UserError, reason

LARGEST = 2**24  # pieces; published vocabularies have up to 2**18
FORMAT = 2  # raise it whenever the same files would give other tokens


@dataclasses.dataclass(frozen=True)
class HuggingFace:
  """A published vocabulary: nothing is learned.

  Attributes:
    path: a tokenizer.json; or a folder with one, or with the files that GPT-2 (encoder.json and
      vocab.bpe, or vocab.json and merges.txt), CLIP (bpe_simple_vocab_16e6.txt.gz), BERT
      (vocab.txt) or Llama 2 (tokenizer.model) publish; or one of these files.
    end: the end-of-text token; None takes the usual one of its kind.
    begin: the token before a document; None is end-of-text, or the beginning that a
      tokenizer.model has. Of such a model, `end` and `begin` can be no others than its own.
  """

  path: str
  end: str | None = None
  begin: str | None = None

  @property
  def vocab_size(self) -> int:
    return self.fit().vocab_size

  def fingerprint(self) -> str:
    total = hashlib.blake2b(digest_size=16)
    for path in published.find(self.path):
      total.update(path.name.encode() + path.read_bytes())
    # As it was before documents could have a beginning, so that what was prepared is found.
    names = self.end if self.begin is None else f"{self.begin} {self.end}"
    return f"huggingface {FORMAT} {names} {total.hexdigest()}"

  def fit(self, documents: Sequence[str] = ()) -> HuggingFaceVocabulary:
    """Reads it.

    Raises:
      UserError: there is no such file, or it is none of these kinds.
    """
    del documents
    paths = published.find(self.path)
    stamp = tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
    return _fit(paths, stamp, self.end, self.begin)


@functools.lru_cache(maxsize=4)
def _fit(
  paths: tuple[pathlib.Path, ...], stamp, end: str | None, begin: str | None
) -> HuggingFaceVocabulary | SentencePieceVocabulary:
  del stamp  # only there to notice files that have changed
  names = " and ".join(str(path) for path in paths)
  try:
    if paths[0].suffix == ".model":
      return _sentence_piece(paths[0].read_bytes(), end, begin)
    return HuggingFaceVocabulary(published.build(paths), end, begin)
  except UserError as error:
    raise error if names in str(error) else UserError(f"{names}: {error}") from None
  except Exception as error:  # the library raises bare Exceptions
    raise UserError(
      f"{names} cannot be read as a tokenizer ({reason(error)}); copy it again"
    ) from None


def _sentence_piece(model: bytes, end: str | None, begin: str | None) -> SentencePieceVocabulary:
  found = SentencePieceVocabulary(model)
  for field, name, number in (("end", end, found.end), ("begin", begin, found.begin)):
    if name not in (None, found.name(number)):
      raise UserError(
        f"{field}={name!r} is not what the model has, {found.name(number)!r}; leave it out, or "
        "give a tokenizer.json, which may have others"
      )
  return found


class HuggingFaceVocabulary:
  """A tokenizer of the `tokenizers` library; see `Vocabulary` for its attributes."""

  def __init__(self, text: str, end: str | None, begin: str | None = None):
    from tokenizers import Tokenizer

    self._text = text
    self._tokenizer = Tokenizer.from_str(text)
    self._tokenizer.no_truncation()  # settings of one use, not of the vocabulary
    self._tokenizer.no_padding()
    # Text that looks like a special token is text: nobody's document may end another one.
    self._tokenizer.encode_special_tokens = True
    ids = self._tokenizer.get_vocab(with_added_tokens=True)
    added = self._tokenizer.get_added_tokens_decoder()
    self.vocab_size = max(ids.values()) + 1
    if self.vocab_size > LARGEST:
      raise UserError(f"the tokenizer numbers a piece {self.vocab_size - 1:,}; it is damaged")
    self.special = {token.content: i for i, token in added.items() if token.special}
    self._name, self._begin = end, begin
    self.end = self._number(ids, (end,) if end else published.ENDS)
    self.begin = self._number(ids, (begin,)) if begin else self.end

    parts = json.loads(text)
    self._byte_level = "ByteLevel" in _types(parts.get("pre_tokenizer"))
    suffix = parts["model"].get("end_of_word_suffix")
    prefix = '"add_prefix_space": true' in json.dumps(parts.get("pre_tokenizer"))
    # NFC does nothing to clean text; any other normalizer may.
    exact = _types(parts.get("normalizer")) <= {"NFC", "Sequence"}
    self.lossless = self._byte_level and exact and not prefix and not suffix
    bytes_by_letter = {letter: byte for byte, letter in published.letters_of_bytes().items()}
    self._pieces = [b""] * self.vocab_size
    for piece, i in ids.items():
      self._pieces[i] = b"" if i in added else self._bytes(piece, suffix, bytes_by_letter)
    for i, token in added.items():
      if not token.special:
        self._pieces[i] = token.content.encode()
    if self.end not in added:
      self._pieces[self.end] = b""
    self.bytes_of = np.array([len(piece) for piece in self._pieces], np.int32)
    self.continues = vocabulary.continuing(self._pieces)
    if inside := parts["model"].get("continuing_subword_prefix"):  # the ## of BERT
      self.continues[:] = False
      self.continues[[i for piece, i in ids.items() if piece.startswith(inside)]] = True

  @property
  def text(self) -> str:
    """The contents of its tokenizer.json."""
    return self._text

  def _number(self, ids: dict[str, int], names: Sequence[str]) -> int:
    for name in names:
      if name in ids:
        return ids[name]
    raise UserError(
      f"the vocabulary has no {' or '.join(map(str, names))}; name its end-of-text token with "
      f"HuggingFace(path, end=...): {', '.join(self.special) or 'it has no special tokens'}"
    )

  def _bytes(self, piece: str, suffix: str | None, letters: dict[str, int]) -> bytes:
    if suffix and piece.endswith(suffix):
      piece = piece[: -len(suffix)]
    if self._byte_level and all(letter in letters for letter in piece):
      return bytes(letters[letter] for letter in piece)
    if byte := re.fullmatch("<0x([0-9A-F]{2})>", piece):
      return bytes([int(byte[1], 16)])
    return piece.removeprefix("##").replace("\u2581", " ").encode()

  def encode(self, text: str) -> np.ndarray:
    return self.encode_all([text])[0]

  def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [np.array(encoding.ids, np.int32) for encoding in encodings]

  def located(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tokens with their characters, whatever the normalizer does: see `offsets.located`."""
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
    return [
      (np.array(e.ids, np.int32), np.array(e.offsets, np.int64).reshape(-1, 2)) for e in encodings
    ]

  def decode(self, ids: Iterable[int]) -> str:
    if self.lossless:
      return vocabulary.join(self._pieces, ids)
    known = [i for i in map(int, ids) if 0 <= i < self.vocab_size]
    text = self._tokenizer.decode(known, skip_special_tokens=True)
    return text.replace("</w>", " ").strip() if self._byte_level else text

  def save(self, folder: str | pathlib.Path) -> None:
    description = {"kind": "huggingface", "end": self._name, "begin": self._begin}
    vocabulary.write(folder, description, {published.JSON: self._text.encode()})

  @classmethod
  def load(cls, folder: str | pathlib.Path) -> HuggingFaceVocabulary:
    path = pathlib.Path(folder) / published.JSON
    try:
      about = vocabulary.read(folder)
      return cls(path.read_text(encoding="utf-8"), about.get("end"), about.get("begin"))
    except UserError:
      raise
    except Exception as error:  # the library raises bare Exceptions
      raise UserError(
        f"{path} cannot be read ({reason(error)}); copy it from the run again"
      ) from None


def _types(part) -> set[str]:
  """The kinds of components in a part of a tokenizer.json."""
  if isinstance(part, dict):
    own = {part["type"]} if "type" in part else set()
    return own.union(*(_types(value) for value in part.values()))
  if isinstance(part, list):
    return set().union(*(_types(value) for value in part))
  return set()
