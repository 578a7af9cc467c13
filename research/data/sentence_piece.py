"""SentencePiece (Kudo and Richardson, 2018): subwords learned from the train split."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np

from research.data import cache, vocabulary
from research.errors import UserError, reason

END = "<|endoftext|>"
SPACE = "\u2581"  # how SentencePiece writes a space inside its pieces
MODEL = "sentencepiece.model"
FORMAT = 1  # raise it whenever training here changes
# White space that no word may swallow: one piece per newline, tab and run of spaces (as code has).
WHITE = ("\n", "\t", *(SPACE * n for n in range(2, 17)))
PROBE = "a  \ufb01 b"  # comes back only where nothing is added, joined or normalized
CHUNK = 1000  # characters: the trainer drops sentences over 4192 bytes


@dataclasses.dataclass(frozen=True)
class SentencePiece:
  """Learns `vocab_size` pieces from the train split; what no piece spells is spelled in bytes.

  The vocabulary is exact: text is not normalized, all white space is kept. It contains unknown
  (never used), end-of-text, newline, tab, runs of 2 to 16 spaces, and the 256 bytes.

  Attributes:
    vocab_size: number of pieces.
    kind: "unigram" (Kudo, 2018) or "bpe" (Sennrich et al., 2016).
    coverage: share of the characters of the text that get a piece of their own.
    sample: lines to learn from, at most; drawn with a fixed seed.
    special: names of tokens that no text contains, such as "[CLS]"; they count among the pieces.
  """

  vocab_size: int
  kind: Literal["unigram", "bpe"] = "unigram"
  coverage: float = 0.9995
  sample: int = 200_000
  special: tuple[str, ...] = ()

  def __post_init__(self):
    if self.kind not in ("unigram", "bpe"):
      raise UserError(f"kind={self.kind!r} is unknown; choose 'unigram' or 'bpe'")
    least = 256 + 2 + len(WHITE) + len(self.special) + 1
    if self.vocab_size < least:
      raise UserError(
        f"vocab_size={self.vocab_size} has no room for the 256 bytes, {len(WHITE)} pieces of white "
        f"space, end-of-text and unknown; choose {least} or more, or Bytes()"
      )

  def fingerprint(self) -> str:
    # As it was before there were special tokens, so that what has been learned is found.
    learned = repr(self).replace(", special=())", ")")
    return f"sentencepiece {FORMAT} {learned}"

  def fit(self, documents: Sequence[str]) -> SentencePieceVocabulary:
    """Trains, or reads from the cache what was trained on the same documents before.

    Raises:
      UserError: the documents do not support so many pieces.
    """
    seen = hashlib.blake2b(digest_size=16)
    for document in documents:
      seen.update(document.encode() + b"\xff")  # a byte that no UTF-8 contains
    name = cache.key(self.fingerprint(), seen.hexdigest())
    folder = cache.folder(
      "vocabulary",
      name,
      lambda folder: SentencePieceVocabulary(self._train(documents)).save(folder),
    )
    return SentencePieceVocabulary.load(folder)

  def _train(self, documents: Sequence[str]) -> bytes:
    import sentencepiece

    model = io.BytesIO()
    try:
      sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(_sample(_lines(documents), self.sample)),
        model_writer=model,
        model_type=self.kind,
        vocab_size=self.vocab_size,
        character_coverage=self.coverage,
        num_threads=1,  # the sums of the EM steps, and so the pieces, may depend on their number
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        control_symbols=list(self.special),
        user_defined_symbols=list(WHITE),
        unk_id=0,
        eos_id=1,
        eos_piece=END,
        bos_id=-1,
        pad_id=-1,
        minloglevel=2,
      )
    except RuntimeError as error:
      raise UserError(self._explain(str(error))) from None
    return model.getvalue()

  def _explain(self, error: str) -> str:
    if high := re.search(r"value <= (\d+)", error):
      return (
        f"vocab_size={self.vocab_size} is more than the train split supports; "
        f"choose {high[1]} or less"
      )
    if low := re.search(r"required_chars\D*\d+ vs (\d+)", error):
      return (
        f"vocab_size={self.vocab_size} is less than the {low[1]} characters of the train split "
        f"that must have a piece; choose more, or a coverage under {self.coverage}"
      )
    return f"SentencePiece cannot learn {self.vocab_size} pieces from the train split: {error}"


def _lines(documents: Iterable[str]) -> Iterator[str]:
  """Lines, long ones in parts: pieces never reach over a line break, which is its own piece."""
  for document in documents:
    for line in document.split("\n"):
      for start in range(0, len(line), CHUNK):
        yield line[start : start + CHUNK]


def _sample(lines: Iterator[str], size: int) -> list[str]:
  """At most `size` of the lines, in order. Ours, for the library's own draw is not seeded."""
  lines = [line for line in lines if line]
  if len(lines) <= size:
    return lines
  chosen = np.random.RandomState(0).permutation(len(lines))[:size]
  return [lines[i] for i in np.sort(chosen)]


class SentencePieceVocabulary:
  """A trained SentencePiece model; see `Vocabulary` for its attributes."""

  def __init__(self, model: bytes):
    import sentencepiece

    self._model = model
    self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    size = self._processor.GetPieceSize()
    self.vocab_size = size
    self.end, begin = int(self._processor.eos_id()), int(self._processor.bos_id())
    self.begin = begin if begin >= 0 else self.end
    self._first_byte = int(self._processor.PieceToId("<0x00>"))
    last = min(self._first_byte + 255, size - 1)
    if self.end < 0 or not all(map(self._processor.IsByte, (self._first_byte, last))):
      raise UserError(
        "the SentencePiece model has no end-of-text, or no pieces for the 256 bytes; give one that "
        "was trained here"
      )
    self._pieces = [self._bytes(i) for i in range(size)]
    self.bytes_of = np.array([len(piece) for piece in self._pieces], np.int32)
    self.continues = vocabulary.continuing(self._pieces)
    names = {i: self._processor.IdToPiece(i) for i in range(size) if self._processor.IsControl(i)}
    self.special = {name: i for i, name in names.items() if i != self.end}
    # Published models may put a space before a text, join spaces, or take letters apart.
    self.lossless = self.decode(self.encode(PROBE)) == PROBE

  def name(self, i: int) -> str:
    """How the model writes a piece."""
    return self._processor.IdToPiece(i)

  def _bytes(self, i: int) -> bytes:
    if self._processor.IsControl(i) or self._processor.IsUnknown(i):
      return b""
    piece = self._processor.IdToPiece(i)
    if self._processor.IsByte(i):
      return bytes([int(piece[3:5], 16)])
    return piece.replace(SPACE, " ").encode()

  def encode(self, text: str) -> np.ndarray:
    return self.encode_all([text])[0]

  def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
    # The library would read U+2581 as a space, and a NUL as the end: they are spelled in bytes.
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    plain = [i for i, text in enumerate(texts) if SPACE not in text and "\0" not in text]
    rows: list = [None] * len(texts)
    for i, ids in zip(plain, self._processor.EncodeAsIds([texts[i] for i in plain], num_threads=2)):
      rows[i] = np.array(ids, np.int32)
    for i, text in enumerate(texts):
      if rows[i] is None:
        rows[i] = np.array(self._encode_around(text), np.int32)
    return rows

  def _encode_around(self, text: str) -> list[int]:
    ids: list[int] = []
    for part in re.split(f"([{SPACE}\0])", text):
      if part in (SPACE, "\0"):
        ids += [self._first_byte + byte for byte in part.encode()]
      elif part:
        ids += self._processor.EncodeAsIds(part)
    return ids

  def decode(self, ids: Iterable[int]) -> str:
    return vocabulary.join(self._pieces, ids)

  @property
  def model(self) -> bytes:
    """The contents of its .model file."""
    return self._model

  def save(self, folder: str | pathlib.Path) -> None:
    vocabulary.write(folder, {"kind": "sentencepiece"}, {MODEL: self._model})

  @classmethod
  def load(cls, folder: str | pathlib.Path) -> SentencePieceVocabulary:
    path = pathlib.Path(folder) / MODEL
    try:
      return cls(path.read_bytes())
    except (OSError, RuntimeError, ValueError) as error:
      raise UserError(
        f"{path} cannot be read ({reason(error)}); copy it from the run again"
      ) from None
