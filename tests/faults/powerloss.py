"""The power lost at every call of a run that keeps one step: what was not fsynced is gone.

After each call, what has not been flushed is lost in three ways: the contents of files; also the
names that were given and taken; also the old names (see `power.LOSSES`). Held is what `crash`
demands, and that a step whose save was waited for is not lost.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import aftermath, children, power, scenarios, steps
from .outcome import Outcome, Say, judged, spread


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """Loses the power at `n` points, by default at all and after the last, in each of the ways."""
  with children.children() as forks:
    return lost(forks, n, say)


def lost(forks: children.Children, n: int | None, say: Say) -> Outcome:
  """The same with children that are there already."""
  with tempfile.TemporaryDirectory() as name:
    good, bad, left = (Path(name) / part for part in ("good", "bad", "left"))
    scenarios.prepare(good)
    whole = forks.without_fault("save_the_only_one", good)
    points = spread(range(1, whole.answer + 2), n)

    def results() -> Iterator[tuple[str, str]]:
      for point in points:
        shutil.copytree(good, bad)
        ended = forks.run("save_the_only_one", bad, at=point)
        calls = [call for call in ended.log if not call[0].startswith("!")]
        known: dict[tuple, str] = {}  # what was judged is not judged again
        for what, names in power.LOSSES.items():
          power.lose(good, calls, bad, left, names)
          content = tuple(steps.content(left).items())
          if content not in known:
            known[content] = _judge(ended, left)
          yield f"point {point}, {children.last(ended, bad)}, {what}", known[content]
          shutil.rmtree(left)
        shutil.rmtree(bad)

    return judged(results(), len(points) * len(power.LOSSES), say, points=whole.answer)


def _judge(ended: children.Ended, folder: Path) -> str:
  if ended.code not in (0, -9):
    return f"the child ended with {ended.code}: {ended.said}"
  newest = {scenarios.NEXT} if ended.code == 0 else {scenarios.GOOD, scenarios.NEXT}
  return aftermath.problem(folder, newest, damaged={scenarios.BAD})
