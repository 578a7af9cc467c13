"""Every file of a step deleted, emptied, halved, a byte short, bits flipped, swapped with another.

Held is: the very arrays of the step before come back, with one line for each step that was passed
over and nothing beside it. A damage that does no harm to the arrays is a damage.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from . import steps
from .outcome import Outcome, Say, judged, spread

FLIPS = 8  # of one bit each, in every file
OLDEST, OTHER, NEWEST = 1, 2, 3


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """Tries `n` damages, all by default; `seed` chooses the bits."""
  with tempfile.TemporaryDirectory() as name:
    good, bad = Path(name) / "good", Path(name) / "bad"
    steps.save(good, [OLDEST, OTHER, NEWEST])
    cases = spread([*_of_files(good, seed), *_swaps(good)], n)

    def results() -> Iterator[tuple[str, str]]:
      for what, harm in cases:
        shutil.copytree(good, bad)
        harm(bad)
        yield what, _judge(bad)
        shutil.rmtree(bad)

    return judged(results(), len(cases), say)


Harm = tuple[str, Callable[[Path], object]]  # what it is, and what does it to a folder of steps


def damages(content: bytes, draw: random.Random) -> Iterator[tuple[str, bytes | None]]:
  """Ways in which a file may come to harm, with what is left of it; None: no file."""
  yield "deleted", None
  yield "emptied", b""
  yield "halved", content[: len(content) // 2]
  yield "short by a byte", content[:-1]
  for _ in range(FLIPS):
    place, bit = draw.randrange(len(content)), draw.randrange(8)
    flipped = bytearray(content)
    flipped[place] ^= 1 << bit
    yield f"bit {bit} of byte {place} flipped", bytes(flipped)


def _of_files(good: Path, seed: int) -> Iterator[Harm]:
  draw = random.Random(seed)
  for file in sorted(filter(Path.is_file, (good / str(NEWEST)).rglob("*"))):
    name, content = file.relative_to(good), file.read_bytes()
    for what, left in damages(content, draw) if content else [("deleted", None)]:
      yield f"{name} {what}", lambda bad, name=name, left=left: _leave(bad / name, left)


def _leave(file: Path, content: bytes | None) -> None:
  if content is None:
    file.unlink()
  else:
    file.write_bytes(content)


def _swaps(good: Path) -> Iterator[Harm]:
  """Each file, and each folder of a step, with its like in the step before."""
  for one, two in _pairs(good / str(NEWEST), good / str(OTHER)):
    names = one.relative_to(good), two.relative_to(good)
    yield f"{names[0]} and {names[1]} swapped", lambda bad, names=names: _swap(bad, *names)


def _pairs(one: Path, two: Path) -> Iterator[tuple[Path, Path]]:
  """The folders, then what lies in both; names that are random are paired in their order."""
  if steps.content(one) == steps.content(two):
    return
  yield one, two
  here, there = ({p.name: p for p in sorted(folder.iterdir())} for folder in (one, two))
  common = [name for name in here if name in there]
  pairs = [(here.pop(name), there.pop(name)) for name in common]
  for a, b in [*pairs, *zip(here.values(), there.values(), strict=False)]:
    if a.is_dir():
      yield from _pairs(a, b)
    elif a.read_bytes() != b.read_bytes():
      yield a, b


def _swap(folder: Path, one: Path, two: Path) -> None:
  (folder / one).rename(folder / "aside")
  (folder / two).rename(folder / one)
  (folder / "aside").rename(folder / two)


def _judge(folder: Path) -> str:
  try:
    with _heard() as said, steps.opened(folder, newest=9) as checkpoints:
      restored = checkpoints.restore_newest(steps.like())
  except Exception as error:
    return f"{type(error).__name__}: {error}"
  if restored is None:
    return "restored nothing"
  step, state = restored
  if not steps.same(state, steps.state(step)):
    return f"step {step} came back changed, silently"
  if step == NEWEST:
    return "it is not noticed"
  if len(said) != NEWEST - step or not all(line.startswith("warning: ") for line in said):
    return f"fell back to step {step} with {len(said)} lines: {said}"
  if steps.listed(folder) != list(range(OLDEST, step + 1)):
    return f"step {step} came back, and {steps.listed(folder)} are listed"
  return ""


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
  """Fills the list with the lines of stderr, also with those of C++ and of logs."""
  said: list[str] = []
  sys.stderr.flush()
  kept = os.dup(2)
  with tempfile.TemporaryFile() as file, contextlib.redirect_stderr(open(2, "w", closefd=False)):
    os.dup2(file.fileno(), 2)
    try:
      yield said
    finally:
      sys.stderr.flush()
      gc.collect()  # asyncio tells what nobody has asked for
      os.dup2(kept, 2)
      os.close(kept)
      file.seek(0)
      said.extend(file.read().decode(errors="replace").splitlines())
