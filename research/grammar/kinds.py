"""What several commands take: experiments, checkpoints, pictures, folders, counts, words."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

Command = Callable[..., argparse.ArgumentParser]  # (name, function, about, epilog=None) adds one


def experiment(sub: argparse.ArgumentParser) -> None:
  """A file, its knobs and overrides."""
  sub.add_argument("file", help="experiment file, or file.py:function")
  sub.add_argument(
    "words", nargs="*", metavar="name=value", help="knobs, and dotted fields to override"
  )


def checkpoint(sub: argparse.ArgumentParser) -> None:
  """A run's folder, and which of its checkpoints."""
  sub.add_argument("workdir", type=Path)
  sub.add_argument("--step", type=int, help="checkpoint (default: the newest)")


def images(sub: argparse.ArgumentParser, required: bool) -> None:
  """A folder of pictures."""
  about = "pictures, also in a zip or tar"
  sub.add_argument("--images", type=Path, metavar="FOLDER", required=required, help=about)


def words(text: str) -> list[str]:
  """A list with commas."""
  return [word for word in text.split(",") if word]


def folder(text: str) -> Path:
  """A path that is not empty, and no address: that would be made a folder of its name."""
  if not text:
    raise argparse.ArgumentTypeError("expected a folder")
  if "://" in text:
    raise argparse.ArgumentTypeError(f"{text} is no folder; mount it, and give the path it has")
  return Path(text)


def count(text: str) -> int:
  """A number from 1 on."""
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f"{text} must be at least 1")
  return value


def seed(text: str) -> int:
  """What randomness follows from: 32 bits, for JAX drops those beyond."""
  value = int(text)
  if not 0 <= value < 2**32:
    raise argparse.ArgumentTypeError(f"{text} must be from 0 to {2**32 - 1:,}")
  return value
