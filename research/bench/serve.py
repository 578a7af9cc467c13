"""A worker of a benchmark: says that it is ready, then runs once whenever it is told to.

Standard library only, for peers import it under an interpreter of their own.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def serve(run: Callable[[], Any], **facts: Any) -> None:
  """Answers "go" on stdin with {"seconds": of one `run()`} on stdout until stdin ends.

  Args:
    run: does the work and returns when it is finished, with what is to be compared.
    **facts: go with the first answer, as do the seconds of the first call, which compiles, and
      what it returned.
  """
  answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr  # prints of libraries go elsewhere
  os.dup2(2, 1)

  def answer(**values: Any) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()

  began = time.perf_counter()
  outcome = run()
  first = time.perf_counter() - began
  for _ in range(2):
    run()
  answer(first_seconds=first, outcome=outcome, **facts)
  for _ in sys.stdin:
    answer(seconds=seconds(run), peak_memory_bytes=peak_memory())


def seconds(run: Callable[[], Any]) -> float:
  began = time.perf_counter()
  run()
  return time.perf_counter() - began


def peak_memory() -> int:
  """Bytes that this program held at most, on the host."""
  with contextlib.suppress(OSError):  # `getrusage` counts what the process was before it, too
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
      if line.startswith("VmHWM:"):
        return int(line.split()[1]) * 1024
  import resource

  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
