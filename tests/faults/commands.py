"""The real command lines as processes whose lines are read while they run."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUBJECT = "tests/faults/subject.py"
LIMIT = 300  # seconds after which a command hangs, on the slowest of machines
# Almost all of the time goes into compiling; what is compiled runs for milliseconds.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


class Command:
  """A command in a session of its own.

  Attributes:
    lines: (time.monotonic(), text) of each line that was printed, by both streams.
  """

  def __init__(self, *words: str, devices: int = 1, **environment: str):
    self.lines: list[tuple[float, str]] = []
    self._process = subprocess.Popen(
      [sys.executable, "-m", *map(str, words)],
      cwd=ROOT,
      env={
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {QUICK}",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        **environment,
      },
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      errors="replace",
      start_new_session=True,
    )
    self._reader = threading.Thread(target=self._read, daemon=True)
    self._reader.start()

  def __enter__(self) -> Command:
    return self

  def __exit__(self, *_: object) -> None:
    self.kill()

  @property
  def pid(self) -> int:
    return self._process.pid

  @property
  def over(self) -> bool:
    return self._process.poll() is not None

  @property
  def text(self) -> str:
    return "\n".join(text for _, text in list(self.lines))

  def find(self, pattern: str) -> re.Match[str] | None:
    """The last line that a pattern is found in."""
    found = (re.search(pattern, text) for _, text in reversed(list(self.lines)))
    return next(filter(None, found), None)

  def count(self, pattern: str) -> int:
    """The lines that a pattern is found in."""
    return sum(bool(re.search(pattern, text)) for _, text in list(self.lines))

  def until(self, ready: Callable[[], object], seconds: float = LIMIT) -> bool:
    """Waits until something is so; False when the command, or the time, is over before."""
    end = time.monotonic() + seconds
    while not ready():
      if self.over or time.monotonic() > end:
        return bool(ready())
      time.sleep(0.002)
    return True

  def says(self, pattern: str, seconds: float = LIMIT) -> bool:
    """Waits for a line."""
    return self.until(lambda: self.find(pattern), seconds)

  def send(self, number: int) -> None:
    if not self.over:
      os.kill(self.pid, number)

  def kill(self) -> None:
    """Ends it, and all that it has started."""
    if not self.over:
      for group in [self.pid, *self.children()]:
        with contextlib.suppress(ProcessLookupError):
          os.killpg(group, signal.SIGKILL)
    self._process.wait()
    self._reader.join(timeout=5)

  def children(self) -> list[int]:
    """What a launcher has started, each of which leads a session of its own."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
      with contextlib.suppress(OSError):
        parent, _, session = path.read_text().rsplit(")", 1)[1].split()[1:4]
        if int(parent) == self.pid and session == path.parent.name:
          found.append(int(session))
    return found

  def wait(self, seconds: float = LIMIT) -> int | None:
    """The exit code (-n for signal n), or None where it has not ended in time, and is killed."""
    try:
      code = self._process.wait(seconds)
    except subprocess.TimeoutExpired:
      self.kill()
      return None
    self._reader.join(timeout=5)
    return code

  def _read(self) -> None:
    for line in self._process.stdout:
      self.lines.append((time.monotonic(), line.rstrip("\n")))


def research(*words: str, workdir: Path, **named) -> Command:
  """`research run` of the subject: a function of it, knobs, overrides."""
  function, *rest = words
  return Command(
    "research.cli", "run", f"{SUBJECT}:{function}", *rest, "--workdir", str(workdir), **named
  )


def launched(*words: str, workdir: Path, processes: int, retries: int = 10, **environment):
  """`launch local`, of so many processes."""
  function, *rest = words
  where = ("--processes", processes, "--workdir", workdir, "--retries", retries)
  return Command(
    "launch.cli", "local", f"{SUBJECT}:{function}", *rest, *where, "--submit", **environment
  )


def written(path: Path) -> Path:
  """A small text to train on, as a file."""
  path.write_text("\n".join(f"{a} to be or not to be {b}" for a in range(20) for b in range(20)))
  return path
