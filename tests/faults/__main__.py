"""Tries kinds of faults, and says how many held.

python -m tests.faults crash              # every one of them
python -m tests.faults crash damage --n 20 --json FILE
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

from . import (
  crash,
  damage,
  elastic,
  endurance,
  experiments,
  full,
  fuzz,
  inputs,
  ioerror,
  kills,
  malicious,
  nospace,
  numerics,
  powerloss,
  processes,
  resume,
  saves,
  signals,
  sweeps,
)
from .outcome import Say, Unavailable

# A kind is a module with `run(n, seed, say) -> Outcome`. The first line of its docstring says what
# is tried; it imports JAX inside functions or child processes, so that this help comes at once.
KINDS: dict[str, ModuleType] = {
  "crash": crash,
  "nospace": nospace,
  "ioerror": ioerror,
  "full": full,
  "damage": damage,
  "powerloss": powerloss,
  "kills": kills,
  "saves": saves,
  "signals": signals,
  "processes": processes,
  "sweeps": sweeps,
  "elastic": elastic,
  "resume": resume,
  "numerics": numerics,
  "endurance": endurance,
  "experiments": experiments,
  "inputs": inputs,
  "malicious": malicious,
  "fuzz": fuzz,
}


def main(words: list[str]) -> int:
  """0 when all held, 1 when something did not."""
  args = _parser().parse_args(words)
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder goes with it
  outcomes = {}
  with tempfile.TemporaryDirectory(prefix="research-faults-") as folder:
    tempfile.tempdir = folder
    os.environ |= {
      "TMPDIR": folder,
      "RESEARCH_CACHE": f"{folder}/cache",
      "JAX_COMPILATION_CACHE_DIR": f"{folder}/programs",
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
      "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    for kind in args.kinds:
      start = time.monotonic()
      try:
        outcome = KINDS[kind].run(args.n, args.seed, progress(kind))
      except Unavailable as reason:
        print(f"{kind}: not tried: {reason}", flush=True)
        continue
      outcomes[kind] = outcome
      print(f"{outcome.line(kind)}, in {time.monotonic() - start:.0f} s", flush=True)
      for failure in outcome.failures:
        print(f"  {failure}")
  if args.json:
    args.json.write_text(
      json.dumps({kind: dataclasses.asdict(o) for kind, o in outcomes.items()}, indent=2) + "\n"
    )
  return int(any(outcome.failures for outcome in outcomes.values()))


def progress(kind: str) -> Say:
  """Tells how far it is and how fast: on a terminal in one line, elsewhere every half minute."""
  start = told = time.monotonic()
  terminal = sys.stderr.isatty()

  def say(tried: int, of: int) -> None:
    nonlocal told
    now = time.monotonic()
    if now - told < (0.2 if terminal else 30) and tried < of:
      return
    told = now
    each = (now - start) / tried
    text = f"{kind}: {tried} of {of}, {each:.2f} s each, {each * (of - tried):.0f} s left"
    print(
      f"\r{text:<70}" if terminal else text,
      end="" if tried < of and terminal else "\n",
      file=sys.stderr,
      flush=True,
    )

  return say


def _parser() -> argparse.ArgumentParser:
  kinds = "\n".join(
    f"  {name:<12} {(module.__doc__ or '').splitlines()[0]}" for name, module in KINDS.items()
  )
  parser = argparse.ArgumentParser(
    prog="python -m tests.faults",
    description=f"Tries faults, and says how many held; exit code 1 if any did not.\n\n{kinds}",
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("kinds", nargs="+", choices=KINDS, metavar="KIND", help="one of the above")
  parser.add_argument("--n", type=int, help="how many of each, evenly spread (default: all)")
  parser.add_argument("--seed", type=int, default=0, help="of what is random (default: 0)")
  parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the outcomes")
  return parser


if __name__ == "__main__":
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # with its folder and its children
  sys.exit(main(sys.argv[1:]))
