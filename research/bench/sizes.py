"""What is measured; standard library only, for peers import it under their own interpreter."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Size:
  """Of the model that a kind of benchmark is about: a GPT-2, a BERT, a T5."""

  name: str
  depth: int
  width: int
  heads: int
  vocab_size: int


@dataclasses.dataclass(frozen=True)
class Towers:
  """Of a CLIP.

  Attributes:
    image, text: layers, width and heads of each tower; embeddings are as wide as the image tower.
    image_size, patch: rows and columns of a picture, and of a patch.
    length, vocab_size: of captions.
    pairs: in a batch.
  """

  name: str
  image: tuple[int, int, int]
  text: tuple[int, int, int]
  image_size: int
  patch: int
  length: int
  vocab_size: int
  pairs: int


TINY = Size("tiny", depth=2, width=64, heads=2, vocab_size=512)
MINI = Size("mini", depth=6, width=384, heads=6, vocab_size=8_192)
SMALL = Size("small", depth=12, width=768, heads=12, vocab_size=50_257)  # GPT-2 124M
SIZES = {size.name: size for size in (TINY, MINI, SMALL)}
# MiniLM-L6-H384 is what is published of 6 layers x 384, with the 30,522 words of BERT.
MINILM = Size("minilm", depth=6, width=384, heads=12, vocab_size=30_522)
BASE = Size("small", depth=12, width=768, heads=12, vocab_size=30_522)  # BERT base
BERTS = {size.name: size for size in (TINY, MINI, MINILM, BASE)}
T5_SMALL = Size("small", depth=6, width=512, heads=8, vocab_size=32_128)
T5S = {size.name: size for size in (TINY, MINI, T5_SMALL)}
TOWERS = {
  towers.name: towers
  for towers in (
    Towers("tiny", (2, 64, 2), (2, 64, 2), 32, 16, 8, vocab_size=512, pairs=8),
    Towers("mini", (6, 384, 6), (3, 256, 4), 64, 16, 32, vocab_size=8_192, pairs=64),
    Towers("small", (12, 384, 6), (6, 256, 4), 64, 16, 32, vocab_size=8_192, pairs=64),  # ViT-S/16
  )
}
SWEPT = {"tiny": 200, "mini": 1_000, "small": 4_000}  # steps of a run, of some 5 ms on one core

KINDS = {
  "train": SIZES,
  "decode": SIZES,
  "bert": BERTS,
  "classify": BERTS,
  "translate": T5S,
  "clip": TOWERS,
  "save": SIZES,
  "sweep": SWEPT,
  "watch": SIZES,
}

TRAIN = {"tiny": (64, 4), "mini": (256, 16), "minilm": (256, 16), "small": (256, 2)}  # length, rows
PROMPT, NEW = 32, 64  # tokens of a text that is decoded
DECODED = (1, 8)  # side by side

MASKED = 0.15  # of the tokens, which BERT predicts
MASK, END = 3, 1  # tokens of the made-up vocabularies
ROWS, LABELS = 32, 4  # texts that are classified at once, and the labels that they may have
EVEN, UNEVEN = "even", "uneven"  # texts of one length, and of those that sentences have
CLASSIFY = {EVEN: (128, 32), UNEVEN: (128, 256)}  # tokens at most, texts
SOURCE = 32  # tokens of what is translated
SIDE_BY_SIDE = (1, 8, 32)  # sources
