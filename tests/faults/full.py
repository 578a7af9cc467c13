"""A disk that takes no large files any more (`ulimit -f`), amid a run of the command line.

Held is: each of three failed saves is told with its cause, the run ends with exit code 3, the last
good step is untouched and one unfinished step at most is left; the same command goes on from the
good one and ends well when the disk has space again, and then nothing unfinished is left.
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import aftermath, runs, steps
from .commands import research, written
from .outcome import Outcome, Say, judged, spread

LIMITS = (64, 96, 128, 192, 256, 384)  # KiB; the arrays take 800, the journal takes 30


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """Tries `n` of the `LIMITS`, by default all."""
  limits = spread(LIMITS, n)

  def results() -> Iterator[tuple[str, str]]:
    for limit in limits:
      with tempfile.TemporaryDirectory() as name:
        yield f"files of at most {limit} KiB", _try(Path(name), limit << 10)

  return judged(results(), len(limits), say)


def _try(folder: Path, limit: int) -> str:
  workdir = folder / "run"
  words = ("gpt", f"text={written(folder / 'text.txt')}", "steps=100", "pause=0.05")
  words += ("save_every=5", "model.width=64")
  with research(*words, workdir=workdir) as command:
    if not command.until(lambda: runs.newest(workdir)):
      return f"no first checkpoint:\n{command.text}"
    resource.prlimit(command.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    good = runs.newest(workdir)
    content = steps.content(workdir / "checkpoints" / str(good))
    code, text = command.wait(), command.text
  told = [line for line in text.splitlines() if "could not be written" in line]
  if code != 3 or len(told) != 3:
    return f"it ended with {code} after {len(told)} failures:\n{text}"
  if not all("File too large" in line for line in told):
    return f"the cause is not told: {told}"
  if runs.newest(workdir) != good or steps.content(workdir / "checkpoints" / str(good)) != content:
    return f"step {good} was good, and now {runs.newest(workdir)} is the newest, or it has changed"
  if len(_unfinished(workdir)) > 1:
    return f"there are left {_unfinished(workdir)}"
  with research(*words, workdir=workdir) as command:
    code, text = command.wait(), command.text
  if code != 0 or f"resumed at step {good} " not in text:
    return f"with space again it ended with {code}:\n{text}"
  return f"there are left {left}" if (left := _unfinished(workdir)) else ""


def _unfinished(workdir: Path) -> set[str]:
  names = {path.name for path in (workdir / "checkpoints").iterdir()}
  return {name for name in names - aftermath.BESIDE if not name.isdigit()}
