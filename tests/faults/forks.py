"""Functions carried out in children of a process that has imported everything, within limits.

Forked before JAX has a backend, a child costs a hundredth of a second, and what kills it kills
nothing else.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
LIBRARIES = ("jax", "flax", "optax", "grain", "PIL.Image", "tokenizers", "sentencepiece")
ROOMS = ("cli", "commands", "load", "record", "train", "report", "sample", "explain", "data")
ROOMS += ("models", "objectives", "optim", "verify", "preflight", "lock")
ALL = (*LIBRARIES, *(f"research.{room}" for room in ROOMS))


@dataclasses.dataclass(frozen=True)
class Limits:
  """What a child may use.

  Attributes:
    patience: seconds on the clock after which it counts as hanging: the machine may be busy.
    seconds: of processor time after which it does, or None.
    memory: bytes beyond what it was born with, or None.
  """

  patience: int = 60
  seconds: int | None = 5
  memory: int | None = 2 << 30


@dataclasses.dataclass(frozen=True)
class Ended:
  """How a child ended.

  Attributes:
    code: its exit code, or minus the signal that killed it; SIGALRM ends the patience.
    answer: what its function returned, None where it did not come to that.
    said: its stdout and stderr.
    seconds: of processor time.
  """

  code: int
  answer: Any
  said: str
  seconds: float

  @property
  def problem(self) -> str:
    """That it crashed or hung, or nothing."""
    if self.code == -signal.SIGXCPU or self.code == -signal.SIGALRM:
      return f"hung: {self.seconds:.1f} s"
    return f"killed by {signal.Signals(-self.code).name}" if self.code < 0 else ""


class Forks:
  """Runs functions in children; use inside `forks()`."""

  def __init__(self, server: subprocess.Popen[str], scratch: Path, limits: Limits):
    self._server, self.scratch, self._limits = server, scratch, dataclasses.asdict(limits)

  def run(self, function: str, *args: Any, folder: Path | None = None) -> Ended:
    """What became of "module:function" called with `args` (JSON), inside `folder`."""
    paths = {name: str(self.scratch / name) for name in ("answer", "said")}
    for path in paths.values():
      Path(path).unlink(missing_ok=True)
    order = {"function": function, "args": args, "folder": str(folder or self.scratch), **paths}
    order["limits"] = self._limits
    self._server.stdin.write(json.dumps(order) + "\n")
    self._server.stdin.flush()
    code, seconds = json.loads(self._server.stdout.readline())
    answer = Path(paths["answer"])
    return Ended(
      code,
      json.loads(answer.read_text()) if answer.exists() else None,
      Path(paths["said"]).read_text(errors="replace"),
      seconds,
    )


@contextmanager
def forks(
  modules: Sequence[str] = ALL, limits: Limits = Limits(), **environment: str
) -> Iterator[Forks]:
  """A server for the block, with one device, whatever this process has.

  Args:
    modules: that it imports for its children.
    limits: of each child.
    environment: variables of theirs.
  """
  with tempfile.TemporaryDirectory() as scratch:
    server = subprocess.Popen(
      [sys.executable, "-W", "ignore", "-m", "tests.faults.forks", *modules],
      cwd=ROOT,
      env=os.environ
      | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "TF_CPP_MIN_LOG_LEVEL": "2"}
      | environment,
      text=True,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      start_new_session=True,
    )
    try:
      yield Forks(server, Path(scratch), limits)
    finally:  # with the child that may be at work where the block ends early
      os.killpg(server.pid, signal.SIGKILL)
      server.wait()
      server.stdin.close()
      server.stdout.close()


def serve(modules: Sequence[str]) -> None:
  """Reads an order a line, and answers with the exit code and the seconds of its child."""
  for name in modules:
    importlib.import_module(name)
  for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
      _carry_out(order)
    _, status, used = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    print(json.dumps([code, used.ru_utime + used.ru_stime]), flush=True)


def _carry_out(order: dict[str, Any]) -> None:
  """Does not return."""
  code = 1
  try:
    said = os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.chdir(order["folder"])
    _limit(Limits(**order["limits"]))
    module, _, function = order["function"].partition(":")
    answer = getattr(importlib.import_module(module), function)(*order["args"])
    Path(order["answer"]).write_text(json.dumps(answer))
    code = 0
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _limit(limits: Limits) -> None:
  if limits.memory is not None:
    born = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (born + limits.memory, born + limits.memory))
  if limits.seconds is not None:
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds + 1, limits.seconds + 2))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  signal.alarm(limits.patience)


if __name__ == "__main__":
  serve(sys.argv[1:])
