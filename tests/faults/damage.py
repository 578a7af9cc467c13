"""Every file of a step deleted, emptied, halved, a byte short, bits flipped, swapped with another.

Held is: the very arrays that were saved come back (the file was not needed), or those of the step
before, with one line of ours for each step that was passed over. What libraries print beside it is
counted among the figures.
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
    found: list[tuple[int, int]] = []  # steps that were restored, and lines that are not ours

    def results() -> Iterator[tuple[str, str]]:
      for what, harm in cases:
        shutil.copytree(good, bad)
        harm(bad)
        yield what, _judge(bad, found)
        shutil.rmtree(bad)

    outcome = judged(results(), len(cases), say)
  whole = [step for step, _ in found].count(NEWEST)
  outcome.figures["restored as saved"], outcome.figures["fell back"] = whole, len(found) - whole
  outcome.figures["with lines of others"] = sum(lines > 0 for _, lines in found)
  return outcome


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


def _judge(folder: Path, found: list[tuple[int, int]]) -> str:
  try:
    with _heard() as said, steps.opened(folder, newest=9) as checkpoints:
      restored = checkpoints.restore_newest(steps.like())
  except Exception as error:
    return f"{type(error).__name__}: {error}"
  if restored is None:
    return "restored nothing"
  step, state = restored
  ours = [line for line in said if "warning: " in line]
  found.append((step, len(said) - len(ours)))
  if not steps.same(state, steps.state(step)):
    return f"step {step} came back changed, silently"
  if len(ours) != NEWEST - step:
    return f"fell back to step {step} with {len(ours)} lines: {ours}"
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
