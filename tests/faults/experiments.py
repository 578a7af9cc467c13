"""Malformed experiment files, overrides, command lines and run folders, through the command line.

Held is: exit code 2, at most twelve lines that name the value and the way out, no traceback, before
anything is compiled, within five seconds of processor time. Every so many are tried once more in a
process of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import mistakes
from .forks import ROOT, Ended, Limits, forks
from .mistakes import Mistake
from .outcome import Outcome, Say, judged, spread

LINES = 12
ALONE = 16  # of so many mistakes one is also made in a process of its own


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """Makes `n` of the mistakes, all by default."""
  del seed  # nothing is random
  cases = spread(list(mistakes.all_of_them()), n)
  slowest = 0.0
  alone = 0

  def results() -> Iterator[tuple[str, str]]:
    nonlocal slowest, alone
    with forks() as children:
      for i, mistake in enumerate(cases):
        with tempfile.TemporaryDirectory() as name:
          folder = Path(name)
          mistake.make(folder)
          ended = children.run(f"{__name__}:attempt", mistake.words, folder=folder)
          slowest = max(slowest, ended.seconds)
          problem = judge(mistake, folder, ended)
        if not problem and i % ALONE == 0:
          alone += 1
          with tempfile.TemporaryDirectory() as name:
            mistake.make(Path(name))
            problem = judge(mistake, Path(name), by_itself(mistake, Path(name)))
        yield mistake.name, problem

  outcome = judged(results(), len(cases), say)
  outcome.figures["in a process of their own"] = alone
  outcome.figures["slowest"] = f"{slowest:.1f} s"
  return outcome


def attempt(words: list[str]) -> tuple[int, int]:
  """The exit code of the command, and how many programs were compiled."""
  import jax

  from research import cli

  compiled = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
  )
  try:
    code = cli.main(words)
  except SystemExit as error:  # of argparse
    code = error.code
  return code, len(compiled)


def by_itself(mistake: Mistake, folder: Path) -> Ended:
  done = subprocess.run(
    [sys.executable, "-m", "research.cli", *mistake.words],
    cwd=folder,
    env=os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""},
    capture_output=True,
    errors="replace",
    stdin=subprocess.DEVNULL,
    timeout=120,
  )
  return Ended(0, (done.returncode, 0), done.stdout + done.stderr, 0.0)


def judge(mistake: Mistake, folder: Path, ended: Ended) -> str:
  """What is wrong with how a mistake was told, or nothing."""
  if ended.problem or ended.answer is None:
    return ended.problem or f"raises {(ended.said.strip().splitlines() or ['nothing'])[-1]}"
  code, compiled = ended.answer
  lines = ended.said.rstrip().splitlines()
  last = lines[-1][:300] if lines else "nothing"
  if code != 2:
    return f"exit code {code}, saying {last}"
  if "Traceback" in ended.said:
    return f"a traceback, ending in {last}"
  if len(lines) > LINES:
    return f"{len(lines)} lines"
  if missing := [told for told in mistake.told if told not in ended.said]:
    return f"does not say {missing}, but {last}"
  if compiled:
    return f"{compiled} programs were compiled before it was told"
  if ended.seconds > Limits().seconds:
    return f"told after {ended.seconds:.1f} s"
  if any(folder.rglob("metrics.jsonl")) and not mistake.ran:
    return "a run was begun"
  return ""
