"""Child processes in which calls to the file system are counted, and one of them goes wrong.

Their server has the library of `crash.c` before libc; a try takes about a second.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .forks import Forks, Limits, forks
from .outcome import Unavailable

HERE = Path(__file__).parent
LIMIT = 120  # seconds after which a child is killed
MODULES = ("research.checkpoint", "tests.faults.scenarios")  # and with them JAX and Orbax


@dataclasses.dataclass(frozen=True)
class Ended:
  """How a child ended.

  Attributes:
    code: its exit code; -9 where it was killed, -14 where it had to be after `LIMIT` seconds.
    answer: what its scenario returned, None where it did not come to that.
    said: its stderr.
    log: the calls it made, as (name, path, other path); one begun but not made has a "!" before.
  """

  code: int
  answer: Any
  said: str
  log: list[tuple[str, str, str]]


class Children:
  """Runs functions of `scenarios.py`, each in a child of its own; use inside `children()`."""

  def __init__(self, server: Forks):
    self._forks = server

  def without_fault(self, scenario: str, good: Path) -> Ended:
    """What becomes of a copy of the folder `good`; how many points there are is its answer.

    Raises:
      RuntimeError: already that ends badly.
    """
    copy = self._forks.scratch / "copy"
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
    log = self._forks.scratch / "log"
    log.unlink(missing_ok=True)
    order = {"folder": str(folder), "at": at, "error": error, "log": str(log)}
    ended = self._forks.run("tests.faults.children:carry_out", scenario, order)
    lines = log.read_text().splitlines() if log.exists() else []
    return Ended(ended.code, ended.answer, ended.said, [tuple(x.split("\t")) for x in lines])


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
  with (
    tempfile.TemporaryDirectory() as name,
    forks(
      MODULES,
      Limits(LIMIT, None, None),
      LD_PRELOAD=str(compiled(Path(name))),
      XLA_FLAGS="--xla_backend_optimization_level=0",
    ) as server,
  ):
    yield Children(server)


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


def carry_out(scenario: str, order: dict[str, Any]) -> Any:
  """In a child: what a function of `scenarios.py` returns."""
  from . import scenarios

  return getattr(scenarios, scenario)(Path(order["folder"]), Fault(order))
