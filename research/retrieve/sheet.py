"""Pictures on a page, each small and inside of the page itself, so that it opens anywhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from research import disk
from research.data.images import Unreadable, read
from research.errors import UserError
from research.report import page

SIDE = 160  # pixels of a thumbnail's shorter side
QUALITY = 80  # of its JPEG


def thumbnail(picture: Path | np.ndarray) -> str:
  """A picture as the `src` of an image; nothing where it cannot be read."""
  import PIL.Image

  try:
    pixels = read(picture, SIDE)
  except (Unreadable, UserError):
    return ""
  written = io.BytesIO()
  PIL.Image.fromarray(pixels).save(written, "JPEG", quality=QUALITY)
  return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode("ascii")


def write(path: Path, title: str, status: str, pictures: Iterable[tuple[Path, str, str]]) -> None:
  """Writes a contact sheet.

  Args:
    path: of the page.
    title, status: above the pictures.
    pictures: a file of each, its name, and what is said of it.

  Raises:
    UserError: the page cannot be written.
  """
  cells = [(thumbnail(file), name, said) for file, name, said in pictures]
  body = [f"<h1>{page.text(title)}</h1>", page.paragraph(page.text(status), "status")]
  try:
    disk.replace(path, page.page(title, [*body, page.pictures(cells)]))
  except OSError as error:
    raise UserError(f"--output {path} cannot be written ({error.strerror}).") from None
