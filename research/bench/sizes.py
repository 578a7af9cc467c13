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


TINY = Size("tiny", depth=2, width=64, heads=2, vocab_size=512)
MINI = Size("mini", depth=6, width=384, heads=6, vocab_size=8_192)
SMALL = Size("small", depth=12, width=768, heads=12, vocab_size=50_257)  # GPT-2 124M
SIZES = {size.name: size for size in (TINY, MINI, SMALL)}
TRAIN = {"tiny": (64, 4), "mini": (256, 16), "small": (256, 2)}  # length, batch size
PROMPT, NEW = 32, 64  # tokens of a text that is decoded
