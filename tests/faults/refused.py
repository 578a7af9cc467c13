"""Runs to which the disk refuses all that changes files, from a call on, until it is freed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import aftermath, children, scenarios
from .outcome import Outcome, Say, judged, spread

SECONDS = 5.0  # within which it has to be said


def refused(forks: children.Children, error: int, n: int | None, say: Say) -> Outcome:
  """Fails calls with the errno `error` from each of `n` points on, by default of all.

  Held is: within `SECONDS` an error is told that names the cause, or the save is whole; the last
  good step is intact before and after; once the disk is freed the next save works, and nothing is
  left over.
  """
  with tempfile.TemporaryDirectory() as name:
    good, bad, meanwhile = (Path(name) / part for part in ("good", "bad", "meanwhile"))
    scenarios.prepare(good)
    whole = forks.without_fault("save", good)
    points = spread(range(1, whole.answer + 1), n)
    seconds = []

    def results() -> Iterator[tuple[str, str]]:
      for point in points:
        shutil.copytree(good, bad)
        ended = forks.run("go_on", bad, at=point, error=error)
        if ended.code == 0:
          seconds.append(ended.answer["seconds"])
        yield f"point {point}, {children.last(ended, bad)}", _judge(ended, error, bad, meanwhile)
        for folder in (bad, meanwhile):
          shutil.rmtree(folder, ignore_errors=True)

    outcome = judged(results(), len(points), say, calls=len(whole.log), points=whole.answer)
  outcome.figures["told within"] = f"{max(seconds, default=0):.1f} s"
  return outcome


def _judge(ended: children.Ended, error: int, folder: Path, meanwhile: Path) -> str:
  if ended.code != 0:
    return f"the run ended with {ended.code}: {_end(ended.said)}"
  if ended.answer["seconds"] > SECONDS:
    return f"it took {ended.answer['seconds']:.1f} s until it was known how the save had ended"
  ours = [line for line in ended.said.splitlines() if "warning: a checkpoint " in line]
  told = "\n".join([*ours, ended.answer["error"]])
  failed = any(call[0].startswith("!") for call in ended.log)
  saved = scenarios.NEXT in ended.answer["meanwhile"]
  if failed and not saved and os.strerror(error) not in told:
    return f"the step is not saved, and nothing says {os.strerror(error)!r}: {_end(told)}"
  newest = {scenarios.NEXT} if saved else {scenarios.GOOD}
  if problem := aftermath.problem(meanwhile, newest, damaged={scenarios.BAD}):
    return f"before the disk was freed: {problem}"
  return aftermath.problem(folder, {scenarios.AFTER})


def _end(text: str) -> str:
  return text.strip().replace("\n", " | ")[-600:]
