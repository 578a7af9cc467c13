"""Child processes in which calls to the file system are counted, and one of them goes wrong.

A server imports everything once, with the library of `crash.c` before libc, and forks a child for
each try before JAX has a backend, so that a try takes about a second.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .outcome import Unavailable

HERE = Path(__file__).parent
LIMIT = 120  # seconds after which a child is killed


@dataclasses.dataclass(frozen=True)
class Ended:
  """How a child ended.

  Attributes:
    code: its exit code; -9 where it was killed, None where it had to be after `LIMIT` seconds.
    answer: what its scenario returned, None where it did not come to that.
    said: its stderr.
    log: the calls it made, as (name, path, other path); one begun but not made has a "!" before.
  """

  code: int | None
  answer: Any
  said: str
  log: list[tuple[str, str, str]]


class Children:
  """Runs functions of `scenarios.py`, each in a child of its own; use inside `children()`."""

  def __init__(self, server: subprocess.Popen[str], scratch: Path):
    self._server, self._scratch = server, scratch

  def without_fault(self, scenario: str, good: Path) -> Ended:
    """What becomes of a copy of the folder `good`; how many points there are is its answer.

    Raises:
      RuntimeError: already that ends badly.
    """
    copy = self._scratch / "copy"
    shutil.copytree(good, copy)
    ended = self.run(scenario, copy)
    shutil.rmtree(copy)
    if ended.code != 0:
      raise RuntimeError(f"a run without a fault ends with {ended.code}:\n{ended.said}")
    return ended

  def run(self, scenario: str, folder: Path, *, at: int = 0, error: int = 0) -> Ended:
    """What became of `scenario(folder, fault)`.

    Args:
      scenario: the name of a function.
      folder: under which calls are counted, once the scenario arms the fault.
      at: the point, counted from 1, at which something happens; 0: nothing does.
      error: the errno with which calls fail from then on; 0: the child is killed.
    """
    paths = {name: self._scratch / name for name in ("log", "answer", "said")}
    for path in paths.values():
      path.unlink(missing_ok=True)
    order = {"scenario": scenario, "folder": str(folder), "at": at, "error": error}
    order |= {name: str(path) for name, path in paths.items()}
    self._server.stdin.write(json.dumps(order) + "\n")
    self._server.stdin.flush()
    code = json.loads(self._server.stdout.readline())
    answer, log = paths["answer"], paths["log"]
    return Ended(
      code,
      json.loads(answer.read_text()) if answer.exists() else None,
      paths["said"].read_text(errors="replace"),
      [tuple(line.split("\t")) for line in log.read_text().splitlines()] if log.exists() else [],
    )


def last(ended: Ended, folder: Path) -> str:
  """The call at which it happened, for example "before rename /5.tmp /5"."""
  stopped = [call for call in ended.log if call[0].startswith("!")]
  if not stopped:
    return "after all calls"
  name, *paths = stopped[0]
  return " ".join([f"at {name[1:]}", *(path.removeprefix(str(folder)) for path in paths)]).strip()


@contextmanager
def children() -> Iterator[Children]:
  """A server for the block.

  Raises:
    Unavailable: this machine has no C compiler, or is no Linux.
  """
  with tempfile.TemporaryDirectory() as name:
    library = compiled(Path(name))
    environment = os.environ | {
      "LD_PRELOAD": str(library),
      "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    server = subprocess.Popen(
      [sys.executable, "-W", "ignore", "-m", "tests.faults.children"],
      cwd=HERE.parent.parent,
      env=environment,
      text=True,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
    )
    try:
      yield Children(server, Path(name))
    finally:
      server.stdin.close()
      server.wait()
      server.stdout.close()


def compiled(folder: Path) -> Path:
  """The library, made in `folder`."""
  compiler = shutil.which("cc")
  if compiler is None or sys.platform != "linux":
    raise Unavailable("calls can be counted only on Linux, with a C compiler named cc")
  library = folder / "crash.so"
  flags = ["-shared", "-fPIC", "-O1", "-U_FORTIFY_SOURCE", "-pthread"]
  subprocess.run([compiler, *flags, "-o", library, HERE / "crash.c"], check=True)
  return library


class Fault:
  """What will go wrong in this process, once `arm` was called."""

  def __init__(self, order: dict[str, Any]):
    self.at, self.error = order["at"], order["error"]
    self._library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    self._library.faults_disarm.restype = ctypes.c_long
    self._order = order

  def arm(self) -> None:
    folder, log = (os.fsencode(self._order[name]) for name in ("folder", "log"))
    self._library.faults_arm(folder, ctypes.c_long(self.at), self.error, log)

  def disarm(self) -> int:
    """The number of points that were passed."""
    return self._library.faults_disarm()


def serve() -> None:
  """Reads an order a line, and answers with the exit code of a child that carried it out."""
  import research.checkpoint  # noqa: F401  (and with it JAX and Orbax, for all children)

  from . import scenarios

  for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
      _carry_out(getattr(scenarios, order["scenario"]), order)
    print(json.dumps(_wait(child)), flush=True)


def _carry_out(scenario: Any, order: dict[str, Any]) -> None:
  """Does not return."""
  code = 1
  try:
    os.dup2(os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    answer = scenario(Path(order["folder"]), Fault(order))
    Path(order["answer"]).write_text(json.dumps(answer))
    code = 0
  except BaseException:
    sys.excepthook(*sys.exc_info())
  finally:
    sys.stderr.flush()
    os._exit(code)


def _wait(child: int) -> int | None:
  end = time.monotonic() + LIMIT
  while time.monotonic() < end:
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
      return os.waitstatus_to_exitcode(status)
    time.sleep(0.005)
  os.kill(child, signal.SIGKILL)
  os.waitpid(child, 0)
  return None


if __name__ == "__main__":
  serve()
