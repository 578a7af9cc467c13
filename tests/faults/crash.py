"""A run killed at every call that changes files: restore, quarantine, save, deletion, trash.

Held is: the newest whole step is restored with its very arrays, every step that is listed can be
restored, the next save works, and nothing is left over.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import aftermath, children, scenarios
from .outcome import Outcome, Say, judged, spread


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """Kills a run at `n` of its points, by default at all."""
  with tempfile.TemporaryDirectory() as name, children.children() as forks:
    good, bad = Path(name) / "good", Path(name) / "bad"
    scenarios.prepare(good)
    shutil.copytree(good, bad)
    whole = forks.run("save", bad)
    if whole.code != 0:
      return Outcome(1, 0, [f"a run without a fault ends with {whole.code}: {whole.said}"], {})
    points = spread(range(1, whole.answer + 1), n)

    def results() -> Iterator[tuple[str, str]]:
      for point in points:
        shutil.rmtree(bad)
        shutil.copytree(good, bad)
        ended = forks.run("save", bad, at=point)
        yield f"point {point}, {children.last(ended, bad)}", _judge(ended, bad)

    return judged(results(), len(points), say, calls=len(whole.log), points=whole.answer)


def _judge(ended: children.Ended, folder: Path) -> str:
  if ended.code not in (0, -9):  # 0: this time it made fewer calls
    return f"the child ended with {ended.code}: {ended.said}"
  newest = {scenarios.NEXT} if ended.code == 0 else {scenarios.GOOD, scenarios.NEXT}
  return aftermath.problem(folder, newest, damaged={scenarios.BAD})
