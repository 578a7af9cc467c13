"""Which text is learned from and which is held out: a property of the text, not of a draw."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from research.errors import UserError

TRAIN, HELDOUT = "train", "heldout"
SPLITS = (TRAIN, HELDOUT)


@dataclasses.dataclass(frozen=True)
class ByHash:
  """Holds out whole documents, about the fraction `heldout` (0: none), by a hash of their text.

  A document's split never changes when others come or go, and equal documents fall together.
  """

  heldout: float

  def __post_init__(self):
    _check(self.heldout)

  def divide(self, documents: Sequence[str], digests: Sequence[bytes]) -> dict[str, list[int]]:
    """Numbers of the documents of each split; `digests` are `clean.digest` of the documents."""
    out: dict[str, list[int]] = {TRAIN: [], HELDOUT: []}
    for i, digest in enumerate(digests):
      # 8 of the digest's 16 bytes; the others order the documents under a limit.
      fraction = int.from_bytes(digest[:8], "big") / 2**64
      out[HELDOUT if fraction < self.heldout else TRAIN].append(i)
    for split, chosen in out.items():
      if not chosen and (split == TRAIN or self.heldout > 0):
        raise UserError(
          f"ByHash(heldout={self.heldout}) of {len(documents)} documents leaves {split} empty; "
          "choose a larger or smaller share, or give more"
        )
    return out

  def cut(self, text: str) -> dict[str, str]:
    """A document's part in each split that it belongs to: all of it."""
    return dict.fromkeys(SPLITS, text)


@dataclasses.dataclass(frozen=True)
class Tail:
  """Holds out the last fraction `heldout` of the characters of every document.

  For a corpus of one file: Tiny Shakespeare is split 90 to 10 so by convention.
  """

  heldout: float

  def __post_init__(self):
    _check(self.heldout)

  def divide(self, documents: Sequence[str], digests: Sequence[bytes]) -> dict[str, list[int]]:
    """Every document is in both splits, by a part."""
    del digests
    everyone = list(range(len(documents)))
    return {TRAIN: everyone, HELDOUT: everyone}

  def cut(self, text: str) -> dict[str, str]:
    """The first characters for train, the others held out."""
    # int() of the train part, as everyone else's `int(0.9 * len(text))` has it.
    place = int(round(1 - self.heldout, 12) * len(text))
    return {TRAIN: text[:place], HELDOUT: text[place:]}


def check_whole(split: object) -> None:
  """UserError for a split that cuts texts, where whole records are held out."""
  if not isinstance(split, ByHash):
    raise UserError(f"split={split!r} cuts texts, and records are held out whole; give ByHash(...)")


def _check(heldout: float) -> None:
  if not 0 <= heldout < 1:
    raise UserError(f"heldout={heldout} is no fraction; choose one from 0 to below 1, such as 0.05")
