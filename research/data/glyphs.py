"""Glyphs with captions: "a bold italic serif greek small letter alpha in red on white".

The characters of the fonts that matplotlib carries, drawn by Pillow, named by Unicode: 37,227 pairs
of a character and a style, in 64 pairs of colours, on any machine and without a download. What is
drawn, where, in which colours, and what is said of it are functions of (seed, epoch, example);
only the shades of grey at the edges of the ink are FreeType's, and hang on its version.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pathlib
import unicodedata
from importlib import metadata

import numpy as np

from research.data import cache, captions, draws, glyph_ink, glyph_words, pipeline, tokenizers
from research.data.glyph_styles import BY_WORDS, STYLES, Glyph, glyphs, named
from research.data.glyph_words import COLOURS, PHRASINGS, Attributes
from research.data.splits import HELDOUT, TRAIN
from research.data.vocabulary import Bytes, Tokenizer, Vocabulary
from research.errors import UserError

FORMAT = 2  # raise it whenever the files of the cache, or what is in them, change
UNSEEN = ("characters", "combinations", "styles")  # what is new about those that are held out
SPLITS = (TRAIN, HELDOUT, *UNSEEN)

# Shares of the picture's side: an em, the place of the baseline, and how far it may be moved.
EM = (0.54, 0.68)
BASELINE, SHIFT = 0.75, 0.035


@dataclasses.dataclass(frozen=True)
class Glyphs:
  """Pairs of a drawn character and its caption; a `Dataset`.

  Each character in each style is an example, drawn anew, in other colours, in every epoch. There
  are the splits "train"; "characters", those that training never sees in any style;
  "combinations" of a character and a style, both of which it sees, but not together; "styles" that
  it never sees, of characters that it does; and "heldout", the three together.

  Attributes:
    image_size: rows and columns.
    length: tokens of a caption; longer ones are cut.
    tokenizer: of the captions.
    characters: share of the characters that is held out.
    combinations: share of the combinations that is held out; of no character all.
    unseen: styles that are held out, by their words: "bold italic serif", see `glyph_styles`.
    styles: those that there are at all.
    among: the characters that there are at all; "" for all that the styles draw.
    inks, grounds: names of `glyph_words.COLOURS`. Where each of two is drawn on the other as often,
      the mean of a character's pictures is grey all over: nothing linear tells it from others, and
      models are slow to begin.
    phrasings: of captions, one of which is drawn for each picture; see `Attributes.said`.
    start: the number of the token before every caption (CLIP's is 49,406), or None.
    seed: of what is drawn. What is held out does not hang on it.
  """

  image_size: int
  length: int
  tokenizer: Tokenizer = Bytes()  # noqa: RUF009 (frozen)
  characters: float = 0.05
  combinations: float = 0.1
  unseen: tuple[str, ...] = ("bold oblique sans-serif", "bold italic stix")
  styles: tuple[str, ...] = tuple(BY_WORDS)
  among: str = ""
  inks: tuple[str, ...] = tuple(COLOURS)
  grounds: tuple[str, ...] = tuple(COLOURS)
  phrasings: tuple[str, ...] = PHRASINGS
  start: int | None = None
  seed: int = 0

  def __post_init__(self):
    if self.image_size < 8:
      raise UserError(f"image_size={self.image_size} is too small to draw in; choose 8 or more.")
    captions.check_length(self.length)
    for name in ("characters", "combinations"):
      if not 0 <= getattr(self, name) < 1:
        raise UserError(f"{name}={getattr(self, name)} is a share: choose one from 0 to below 1.")
    glyph_words.check(self.phrasings)
    glyph_words.palette(self.inks, self.grounds)
    if not set(named(self.styles)) - set(named(self.unseen)):
      raise UserError(f"unseen={self.unseen} leaves no style of {self.styles} to learn from.")

  def prepare(self) -> PreparedGlyphs:
    """Reads the fonts and fits the tokenizer, or opens what was prepared before."""
    chosen = dataclasses.replace(self, image_size=8, seed=0, tokenizer=Bytes())  # drawn later
    name = cache.key(
      FORMAT,
      metadata.version("matplotlib"),
      unicodedata.unidata_version,
      repr(chosen),
      self.tokenizer.fingerprint(),
    )
    return PreparedGlyphs(cache.folder("glyphs", name, self._write), self)

  def source(self, split: str) -> Drawn:
    """The pairs of "train", "heldout", "characters", "combinations" or "styles"."""
    return self.prepare().source(split)

  def example(self) -> pipeline.Batch:
    """One pair of zeros: the keys, shapes and dtypes of what `source` gives, and nothing opened."""
    return captions.blank(self.image_size, self.length)

  def _write(self, folder: pathlib.Path) -> None:
    found = glyphs(named(self.styles), self.among)
    if not found:
      raise UserError(
        f"among={self.among[:20]!r}: none of them is drawn in any style; give others."
      )
    split_of = divide(found, self.characters, self.combinations, self.unseen)
    arrays = {
      "codes": np.array([ord(glyph.character) for glyph in found], np.int32),
      "style_of": np.array([STYLES.index(glyph.style) for glyph in found], np.int32),
      "middles": np.array([glyph.middle for glyph in found], np.float32),
    }
    for split in (TRAIN, *UNSEEN):
      arrays[split] = np.flatnonzero([of == split for of in split_of])
    # By chance, so that the first thousand of those that are held out are like the others.
    chance = [_fraction(glyph.character, glyph.style.words, "order") for glyph in found]
    held_out = np.flatnonzero([of != TRAIN for of in split_of])
    for split, numbers in (*((split, arrays[split]) for split in UNSEEN), (HELDOUT, held_out)):
      arrays[split] = np.array(sorted(numbers, key=chance.__getitem__), np.int64)
    for name, array in arrays.items():
      np.save(folder / f"{name}.npy", array, allow_pickle=False)
    # What is learned of the captions does not hang on the seed, as the folder's name does not.
    drawn = Drawn(folder, TRAIN, dataclasses.replace(self, seed=0), vocabulary=None)
    texts = drawn.captions(np.arange(len(drawn)))
    fitted = self.tokenizer.fit(texts)
    fitted.save(folder / "vocabulary")
    _, _, cut = captions.rows(fitted, texts, self.length, self.start)
    (folder / "summary.json").write_text(json.dumps({"cut": cut, "of": len(texts)}) + "\n")


def divide(
  found: list[Glyph], characters: float, combinations: float, unseen: tuple[str, ...]
) -> list[str]:
  """The split of each glyph: a property of its name and its style alone, but for one thing.

  Of each character that is not held out one glyph stays in "train", so that there is something to
  learn it from; one that has none outside of the `unseen` styles is held out, too.
  """
  learnable: dict[str, float] = {}  # of each character, the largest fraction of its combinations
  for glyph in found:
    if glyph.style.words not in unseen:
      fraction = _fraction(glyph.character, glyph.style.words)
      learnable[glyph.character] = max(fraction, learnable.get(glyph.character, 0.0))

  def split(glyph: Glyph) -> str:
    if glyph.character not in learnable or _fraction(glyph.character) < characters:
      return "characters"
    if glyph.style.words in unseen:
      return "styles"
    fraction = _fraction(glyph.character, glyph.style.words)
    return "combinations" if fraction < min(combinations, learnable[glyph.character]) else TRAIN

  return [split(glyph) for glyph in found]


def _fraction(*words: str) -> float:
  """From 0 to below 1, evenly, whatever else there is."""
  digest = hashlib.blake2b("\n".join(words).encode(), digest_size=8).digest()
  return int.from_bytes(digest, "big") / 2**64


class PreparedGlyphs:
  """What there is to draw, on disk.

  Attributes:
    vocabulary: the fitted tokenizer.
    cut: captions of the first epoch that were longer than a row.
  """

  def __init__(self, folder: pathlib.Path, dataset: Glyphs):
    self.folder, self.dataset = folder, dataset
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    self.cut, self._of = summary["cut"], summary["of"]
    self.vocabulary: Vocabulary = tokenizers.load(folder / "vocabulary")

  def source(self, split: str) -> Drawn:
    """The pairs of a split."""
    if split not in SPLITS:
      raise UserError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)}.")
    note = captions.note(self.cut, self._of, self.dataset.length) if split == TRAIN else ""
    return Drawn(self.folder, split, self.dataset, self.vocabulary, note)


class Drawn:
  """The pairs of one split; `note` is what a user should know, "" where there is nothing."""

  def __init__(
    self,
    folder: pathlib.Path,
    split: str,
    dataset: Glyphs,
    vocabulary: Vocabulary | None,
    note: str = "",
  ):
    self.dataset, self.split, self.vocabulary, self.note = dataset, split, vocabulary, note
    names = (split, "codes", "style_of", "middles")
    loaded = (np.load(folder / f"{name}.npy") for name in names)
    self.numbers, self._codes, self._styles, self._middles = loaded
    self._palette = glyph_words.palette(dataset.inks, dataset.grounds)
    self._font = functools.lru_cache(maxsize=None)(glyph_ink.font)
    self._of_character = functools.lru_cache(maxsize=None)(glyph_words.of_character)

  def __len__(self) -> int:
    return len(self.numbers)

  def attributes(self, indices: np.ndarray, epoch: int = 0) -> list[Attributes]:
    """What is true of the pictures that `take` gives for the same."""
    return [attributes for attributes, _ in self.described(indices, epoch)]

  def captions(self, indices: np.ndarray, epoch: int = 0) -> list[str]:
    """The words of the captions that `take` gives for the same."""
    return [attributes.said(phrasing) for attributes, phrasing in self.described(indices, epoch)]

  def take(self, indices: np.ndarray, epoch: int) -> pipeline.Batch:
    """Pictures and captions; the same of an example, whatever the batch that it is in."""
    texts = self.captions(indices, epoch)
    tokens, ends, _ = captions.rows(self.vocabulary, texts, self.dataset.length, self.dataset.start)
    return {
      "image": self.drawn(indices, epoch),
      "picture": self.numbers[indices].astype(np.int32),
      "caption": tokens,
      "caption_end": ends,
      "weights": np.ones(len(indices), np.float32),
    }

  def described(self, indices: np.ndarray, epoch: int) -> list[tuple[Attributes, str]]:
    """What is true of each picture, and the phrasing that says so."""
    numbers = self.numbers[indices]
    choices_B3 = self._chances(indices, epoch)[:, :2]
    described = []
    for number, (colours, phrasing) in zip(numbers, choices_B3):
      style = STYLES[self._styles[number]]
      ink, ground = self._palette[int(colours * len(self._palette))]
      attributes = Attributes(
        **self._of_character(chr(self._codes[number])),
        family=style.family,
        weight=style.weight,
        slant=style.slant,
        ink=ink,
        ground=ground,
      )
      phrasings = self.dataset.phrasings
      described.append((attributes, phrasings[int(phrasing * len(phrasings))]))
    return described

  def _chances(self, indices: np.ndarray, epoch: int) -> np.ndarray:
    """(B, 5) from 0 to below 1: colours, phrasing, size, and shift to the right and down."""
    return draws.uniform(self.dataset.seed, epoch, self.numbers[indices], 5)

  def drawn(self, indices: np.ndarray, epoch: int = 0) -> np.ndarray:
    """(B, Y, X, 3) uint8: the pictures that `take` gives for the same."""
    size = self.dataset.image_size
    colours_B, _, em_B, right_B, down_B = self._chances(indices, epoch).T
    pixels_B = np.round(size * (EM[0] + (EM[1] - EM[0]) * em_B)).astype(int)
    ink_BYX = np.empty((len(indices), size, size), np.uint8)
    for i, number in enumerate(self.numbers[indices]):
      style, character = STYLES[self._styles[number]], chr(self._codes[number])
      x = size * (0.5 + SHIFT * (2 * right_B[i] - 1)) - pixels_B[i] * self._middles[number]
      y = size * (BASELINE + SHIFT * (2 * down_B[i] - 1))
      ink_BYX[i] = glyph_ink.coverage(self._font(style, int(pixels_B[i])), character, size, x, y)
    pairs = np.array([[COLOURS[name] for name in pair] for pair in self._palette], np.uint16)
    ink_B3, ground_B3 = pairs[(colours_B * len(pairs)).astype(int)].transpose(1, 0, 2)
    return glyph_ink.blended(ink_BYX, ink_B3, ground_B3)
