"""What is measured; standard library only, for peers import it under their own interpreter."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Size:
  """A GPT-2."""

  name: str
  depth: int
  width: int
  heads: int
  vocab_size: int


SIZES = (Size("mini", 6, 384, 6, 8_192), Size("small", 12, 768, 12, 50_257))
TRAIN = {"mini": (256, 16), "small": (256, 2)}  # length, batch size
PROMPT, NEW = 32, 64  # tokens of a text that is decoded


def parse(name: str) -> Size:
  return next(size for size in SIZES if size.name == name)
