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
  with children.children() as forks:
    return killed(forks, n, say)


def killed(forks: children.Children, n: int | None, say: Say) -> Outcome:
  """The same with children that are there already."""
  with tempfile.TemporaryDirectory() as name:
    good, bad = Path(name) / "good", Path(name) / "bad"
    scenarios.prepare(good)
    whole = forks.without_fault("save", good)
    points = spread(range(1, whole.answer + 1), n)

    def results() -> Iterator[tuple[str, str]]:
      for point in points:
        shutil.copytree(good, bad)
        ended = forks.run("save", bad, at=point)
        yield f"point {point}, {children.last(ended, bad)}", _judge(ended, bad)
        shutil.rmtree(bad)

    return judged(results(), len(points), say, calls=len(whole.log), points=whole.answer)


def _judge(ended: children.Ended, folder: Path) -> str:
  if ended.code not in (0, -9):  # 0: this time it made fewer calls
    return f"the child ended with {ended.code}: {ended.said}"
  newest = {scenarios.NEXT} if ended.code == 0 else {scenarios.GOOD, scenarios.NEXT}
  return aftermath.problem(folder, newest, damaged={scenarios.BAD})
