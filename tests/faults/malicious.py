"""Files made to do harm: pickles in disguise, archives, bombs, vocabularies, checkpoints, records.

Each is read as its user would read it. None may run what it carries, write where it should not,
take long, or end in anything but one line that refuses it.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import hostile
from .outcome import Outcome, Say, judged, spread

LIMIT = 10.0  # seconds for one file
LONGEST = 1500  # letters of the line


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """All of them, or `n` evenly spread; nothing is drawn."""
  del seed
  chosen = spread([*hostile.cases().items()], n)
  with tempfile.TemporaryDirectory() as name:
    home = Path(name)
    _prove(home / "canary")
    tried = ((what, _try(case, home / "tried" / str(i))) for i, (what, case) in enumerate(chosen))
    return judged(tried, len(chosen), say)


def _prove(canary: Path) -> None:
  """The payload is alive: who unpickles it has run it."""
  code = "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"
  subprocess.run([sys.executable, "-c", code], input=hostile.payload(canary), check=True)
  canary.unlink()


class _TooLong(BaseException):
  """Past any `except Exception` on the way."""


@contextlib.contextmanager
def _limited() -> Iterator[None]:
  def end(*_) -> None:
    raise _TooLong

  before = signal.signal(signal.SIGALRM, end)
  signal.setitimer(signal.ITIMER_REAL, LIMIT)
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def _try(case: hostile.Case, folder: Path) -> str:
  """What was wrong with how the file was met; nothing where it was refused in a line."""
  from research.errors import IntegrityError, UserError

  folder.mkdir(parents=True)
  canary = folder.parent / "canary"
  try:
    with _limited():
      problem = "" if case(folder, canary) is hostile.UNTOUCHED else "it was taken"
  except (UserError, IntegrityError) as error:
    line = str(error).strip()
    problem = "" if "\n" not in line and len(line) < LONGEST else f"not in one line: {line[:200]}"
  except _TooLong:
    problem = f"it took more than {LIMIT:g} s"
  except Exception as error:
    problem = f"{type(error).__name__}: {error}"[:300]
  strays = [path.name for path in folder.parent.iterdir() if path.name != folder.name]
  if strays:  # the canary, or a file that climbed out
    problem = f"it left {', '.join(strays)} outside"
    for stray in strays:
      (folder.parent / stray).unlink()
  if any(folder.rglob("evil.txt")):
    problem = "it wrote what it was refused"
  shutil.rmtree(folder)
  return problem
