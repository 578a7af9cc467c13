"""Cleaning text: one Unicode form, no control characters, no document twice; counted."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import unicodedata
from collections.abc import Iterable

# Everything of Unicode's category Cc but newline and tab, after carriage returns are gone.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, as broken JSON escapes leave it


def clean(text: str) -> str:
  """Newlines as \\n, no byte order mark or control characters (\\n and \\t stay), Unicode NFC.

  Cleaning a clean text changes nothing. Halves of characters become U+FFFD, so that every clean
  text can be written as UTF-8.
  """
  text = text.replace("\r\n", "\n").replace("\r", "\n")
  text = SURROGATE.sub("\ufffd", CONTROL.sub("", text)).lstrip("\ufeff")
  return unicodedata.normalize("NFC", text)


@dataclasses.dataclass(frozen=True)
class Cleaning:
  """What cleaning a corpus did.

  Attributes:
    documents: documents kept.
    duplicates: documents, dropped unless the text says otherwise, that equal one before.
    empty: documents dropped because nothing but white space was left.
    changed: documents kept whose text cleaning changed.
    bytes: UTF-8 bytes of the documents kept.
  """

  documents: int
  duplicates: int
  empty: int
  changed: int
  bytes: int


def digest(text: str) -> bytes:
  """Sixteen bytes that stand for a clean document: equal texts, equal digests."""
  return hashlib.blake2b(text.encode(), digest_size=16).digest()


def clean_all(
  documents: Iterable[str], duplicates_are: str = "dropped"
) -> tuple[list[str], list[bytes], Cleaning]:
  """Cleans `documents`; returns those kept, in order, their digests, and the counts.

  Duplicates are "dropped" or "kept".
  """
  kept: list[str] = []
  digests: list[bytes] = []
  known: set[bytes] = set()
  duplicates = empty = changed = size = 0
  for raw in documents:
    text = clean(raw)
    if not text.strip():
      empty += 1
      continue
    data = text.encode()
    name = hashlib.blake2b(data, digest_size=16).digest()
    if name in known:
      duplicates += 1
      if duplicates_are == "dropped":
        continue
    known.add(name)
    digests.append(name)
    kept.append(text)
    changed += text != raw
    size += len(data)
  return kept, digests, Cleaning(len(kept), duplicates, empty, changed, size)
