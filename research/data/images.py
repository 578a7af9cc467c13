"""Pictures as arrays: decoded by Pillow, made RGB, resized; and where each is cropped."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import pathlib
import warnings
from collections.abc import Iterable

import numpy as np

from research.data import progress
from research.errors import UserError, reason

LONGEST = 20  # times the shorter side; what is longer is no picture but a line
AT_ONCE = 256  # pictures decoded before they are written
WHITE = (255, 255, 255)
# Pillow reads others, some by programs that it starts.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


class Unreadable(Exception):
  """A picture that cannot be decoded, and why."""


def read(path: pathlib.Path, size: int) -> np.ndarray:
  """(Y, X, 3) uint8, the shorter of Y and X being `size`; bicubic, upright, on white.

  Grey, palette and CMYK pictures become RGB, 16 bits become 8, transparency shows white; of an
  animation the first picture counts.

  Raises:
    Unreadable: it is missing, broken or cut off, or one side is more than 20 times the other.
    UserError: it is larger than Pillow will decode, as files made to fill a memory are.
  """
  import PIL.Image
  import PIL.ImageOps

  try:
    with PIL.Image.open(path, formats=FORMATS) as image:
      _refuse_bomb(path, image.width * image.height)
      short, long = sorted(image.size)
      if long > LONGEST * short:
        raise Unreadable(f"{image.width} x {image.height} pixels")
      image.draft("RGB", (size, size))  # a JPEG is decoded at the next larger of its scales
      upright = PIL.ImageOps.exif_transpose(image)
      rgb = _rgb(upright)
  except PIL.Image.DecompressionBombError as error:
    raise UserError(f"{path}: {error}; leave it out, or make it smaller.") from None
  except (Unreadable, UserError):
    raise
  except Exception as error:  # a decoder raises whatever the file makes of it
    said = getattr(error, "strerror", None) or reason(error)
    raise Unreadable(said.replace(f" {str(path)!r}", "")) from None
  scale = size / min(rgb.size)
  shape = tuple(max(size, round(side * scale)) for side in rgb.size)
  return np.asarray(rgb.resize(shape, PIL.Image.Resampling.BICUBIC))


def _refuse_bomb(path: pathlib.Path, pixels: int) -> None:
  import PIL.Image

  limit = PIL.Image.MAX_IMAGE_PIXELS
  if limit is not None and pixels > limit:
    raise UserError(
      f"{path} has {pixels:,} pixels, more than Pillow's limit of {limit:,} against files made to "
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


def decode(
  files: list[pathlib.Path], size: int, target: pathlib.Path
) -> tuple[list[tuple[int, int]], dict[pathlib.Path, str]]:
  """Writes all pixels behind one another; the shapes of the readable ones, and what is broken."""

  def one(file: pathlib.Path) -> np.ndarray | str:
    try:
      return read(file, size)
    except Unreadable as error:
      return str(error)

  shapes, broken = [], {}
  with (
    warnings.catch_warnings(action="ignore"),  # Pillow's, on what is odd in a file
    target.open("wb") as out,
    progress.line("decoding pictures") as show,
    concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads,  # Pillow frees the others
  ):
    # In parts, for `map` holds all results that nobody has taken yet.
    parts = (files[i : i + AT_ONCE] for i in range(0, len(files), AT_ONCE))
    decoded = (pair for part in parts for pair in zip(part, threads.map(one, part)))
    for file, picture in show(decoded):
      if isinstance(picture, str):
        broken[file] = picture
      else:
        out.write(picture.tobytes())
        shapes.append(picture.shape[:2])
  return shapes, broken


def stamps(files: Iterable[pathlib.Path]) -> str:
  """Changes with the size or the date of any file; reading them would take as long as decoding."""
  total = hashlib.blake2b(digest_size=16)
  for file in files:
    try:
      found = file.stat()
      total.update(f"{found.st_size} {found.st_mtime_ns}\n".encode())
    except OSError:
      total.update(b"missing\n")
  return total.hexdigest()


def crop(image_YXC: np.ndarray, size: int, place: np.ndarray) -> np.ndarray:
  """A square of `size`; `place` is where in the room there is, two fractions from 0 to 1."""
  top, left = ((np.array(image_YXC.shape[:2]) - size + 1) * place).astype(int)
  return image_YXC[top : top + size, left : left + size]


def fractions(count: int, indices: np.ndarray, epoch: int, seed: int) -> np.ndarray:
  """(B, count) evenly from 0 to below 1: a function of the seed, the epoch and the example.

  Every number is SplitMix64's (Steele et al., 2014), so that it hangs on no library's version and
  on no example drawn before.
  """
  state = np.zeros((len(indices), count), np.uint64)
  words = (seed, epoch, np.asarray(indices)[:, None], np.arange(count)[None])
  for word in words:
    state = _mixed(state ^ np.asarray(word, np.int64).astype(np.uint64))
  return (state >> np.uint64(11)) / 2.0**53


def _mixed(x: np.ndarray) -> np.ndarray:
  with np.errstate(over="ignore"):
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))
