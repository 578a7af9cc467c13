"""Characters as pixels, drawn by Pillow, and what two machines must share to draw the same ones."""

from __future__ import annotations

import hashlib
import unicodedata
from importlib import metadata

import numpy as np

from research.data.glyph_styles import STYLES, Style, path

PROBE = "AaBgk7"  # every style draws them


def font(style: Style, size: int):
  """Pillow's font of so many pixels an em."""
  import PIL.ImageFont

  # The other engine shapes by libraqm, which not every Pillow has.
  basic = PIL.ImageFont.Layout.BASIC
  return PIL.ImageFont.truetype(str(path(style)), size, layout_engine=basic)


def coverage(opened, character: str, size: int, x: float, y: float) -> np.ndarray:
  """(Y, X) uint8: how much of each pixel is ink, of a character whose origin is at (x, y)."""
  import PIL.Image
  import PIL.ImageDraw

  canvas = PIL.Image.new("L", (size, size))
  PIL.ImageDraw.Draw(canvas).text((x, y), character, fill=255, font=opened, anchor="ls")
  return np.asarray(canvas)


def blended(ink_BYX: np.ndarray, ink_B3: np.ndarray, ground_B3: np.ndarray) -> np.ndarray:
  """(B, Y, X, 3) uint8: ink on ground, in whole numbers, which are the same everywhere."""
  share_BYX1 = ink_BYX[..., None].astype(np.uint16)
  ink, ground = (x[:, None, None].astype(np.uint16) for x in (ink_B3, ground_B3))
  x_BYX3 = share_BYX1 * ink
  x_BYX3 += (255 - share_BYX1) * ground
  x_BYX3 += 128  # and then it is divided by 255 without a division
  x_BYX3 += x_BYX3 >> 8
  return (x_BYX3 >> 8).astype(np.uint8)


def fingerprint() -> str:
  """Of what FreeType draws here: twelve letters, others where a pixel of some letter is another."""
  total = hashlib.blake2b(digest_size=6)
  for style in STYLES:
    opened = font(style, 40)
    for character in PROBE:
      total.update(coverage(opened, character, 64, 10.5, 48.25).tobytes())
  return total.hexdigest()


def versions() -> dict[str, str]:
  """What pictures hang on beside their seed.

  Fonts (matplotlib) and names (unicode) say which pairs there are; FreeType, which Pillow brings,
  shades the edges. Where the fingerprint is the same, so is every pixel.
  """
  import PIL.features

  return {
    "matplotlib": metadata.version("matplotlib"),
    "unicode": unicodedata.unidata_version,
    "pillow": metadata.version("pillow"),
    "freetype": str(PIL.features.version("freetype2")),
    "fingerprint": fingerprint(),
  }
