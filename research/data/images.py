"""Pictures as arrays: decoded by Pillow, made RGB, resized."""

from __future__ import annotations

import contextlib
import io
import pathlib

import numpy as np

from research.errors import UserError, reason

LONGEST = 20  # times the shorter side; what is longer is no picture but a line
WHITE = (255, 255, 255)
# Pillow reads others, some by programs that it starts.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

Contents = pathlib.Path | bytes | np.ndarray  # a file, what was in it, or pixels


def in_folder(home: pathlib.Path) -> list[str]:
  """The names of the pictures in a folder and the folders in it, in order."""
  found = (path for path in home.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
  return sorted(path.relative_to(home).as_posix() for path in found)


class Unreadable(Exception):
  """A picture that cannot be decoded, and why."""


def read(contents: Contents, size: int, name: str = "") -> np.ndarray:
  """(Y, X, 3) uint8, the shorter of Y and X being `size`; bicubic, upright, on white.

  Grey, palette and CMYK pictures become RGB, 16 bits become 8, transparency shows white; of an
  animation the first picture counts.

  Args:
    contents: of the picture; pixels are (Y, X), (Y, X, 3) or (Y, X, 4) uint8.
    size: of the shorter side.
    name: for messages; a file's own where not given.

  Raises:
    Unreadable: it is missing, broken or cut off, or one side is more than 20 times the other.
    UserError: it is larger than Pillow will decode, as files made to fill a memory are.
  """
  import PIL.Image
  import PIL.ImageOps

  name = name or str(contents if isinstance(contents, pathlib.Path) else "a picture")
  with _opened(contents, name) as image:
    image.draft("RGB", (size, size))  # a JPEG is decoded at the next larger of its scales
    rgb = _rgb(PIL.ImageOps.exif_transpose(image))
  scale = size / min(rgb.size)
  shape = tuple(max(size, round(side * scale)) for side in rgb.size)
  if shape == rgb.size:
    return np.asarray(rgb)
  return np.asarray(rgb.resize(shape, PIL.Image.Resampling.BICUBIC))


def check(contents: Contents, name: str) -> None:
  """Raises what `read` would, as far as a picture's first bytes tell."""
  with _opened(contents, name):
    pass


@contextlib.contextmanager
def _opened(contents: Contents, name: str):
  """The picture, not decoded yet; what goes wrong with it is told as `read` says."""
  import PIL.Image

  try:
    with _image(contents) as image:
      _check(image, name)
      yield image
  except PIL.Image.DecompressionBombError as error:
    raise UserError(f"{name}: {error}; leave it out, or make it smaller.") from None
  except (Unreadable, UserError):
    raise
  except Exception as error:  # a decoder raises whatever the file makes of it
    raise _unreadable(error, name) from None


def _image(contents: Contents):
  import PIL.Image

  if isinstance(contents, np.ndarray):
    return PIL.Image.fromarray(contents)
  return PIL.Image.open(
    io.BytesIO(contents) if isinstance(contents, bytes) else contents, formats=FORMATS
  )


def _check(image, name: str) -> None:
  _refuse_bomb(name, image.width * image.height)
  short, long = sorted(image.size)
  if long > LONGEST * short:
    raise Unreadable(f"{image.width} x {image.height} pixels")


def _unreadable(error: Exception, name: str) -> Unreadable:
  import PIL

  if isinstance(error, PIL.UnidentifiedImageError):  # it would name a place in the memory
    return Unreadable(f"it is none of {', '.join(FORMATS)}")
  said = getattr(error, "strerror", None) or reason(error)
  return Unreadable(said.replace(f" {name!r}", ""))


def _refuse_bomb(name: str, pixels: int) -> None:
  import PIL.Image

  limit = PIL.Image.MAX_IMAGE_PIXELS
  if limit is not None and pixels > limit:
    raise UserError(
      f"{name} has {pixels:,} pixels, more than Pillow's limit of {limit:,} against files made to "
      "fill the memory; leave it out, or make it smaller."
    )


def _rgb(image):
  import PIL.Image

  if image.mode.startswith("I") or image.mode == "F":  # 16 bits, or more
    values = np.asarray(image).astype(np.float64)
    narrow = values / 257 if image.mode != "F" else values
    return PIL.Image.fromarray(np.clip(narrow, 0, 255).astype(np.uint8)).convert("RGB")
  if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA", "La", "RGBa"):
    image = image.convert("RGBA")
    white = PIL.Image.new("RGBA", image.size, (*WHITE, 255))
    return PIL.Image.alpha_composite(white, image).convert("RGB")
  return image.convert("RGB")
