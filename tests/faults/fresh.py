"""The command line in processes of their own, which find everything imported and JAX asleep.

A server imports once, and forks a child for each command.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .commands import LIMIT, QUICK, ROOT


class Fresh:
  """Starts commands; use inside `fresh()`."""

  def __init__(self, server: subprocess.Popen[str]):
    self._server = server

  def research(self, *words: str, said: Path) -> int | None:
    """Runs a command; what it prints is appended to `said`.

    Returns:
      The exit code (-n for signal n), or None where it had to be killed after `LIMIT` seconds.
    """
    self._server.stdin.write(json.dumps([words, str(said)]) + "\n")
    self._server.stdin.flush()
    return json.loads(self._server.stdout.readline())


@contextmanager
def fresh() -> Iterator[Fresh]:
  """A server for the block."""
  server = subprocess.Popen(
    [sys.executable, "-W", "ignore", "-m", "tests.faults.fresh"],
    cwd=ROOT,
    env={**os.environ, "XLA_FLAGS": QUICK, "JAX_PLATFORMS": "cpu"},
    text=True,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    start_new_session=True,
  )
  try:
    yield Fresh(server)
  finally:  # with the child that may be at work where the block ends early
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    server.stdin.close()
    server.stdout.close()


def serve() -> None:
  """Reads a command a line, and answers with the exit code of the child that ran it."""
  from research import cli, commands, report, train  # noqa: F401 (for all children)

  for line in sys.stdin:
    words, said = json.loads(line)
    child = os.fork()
    if child == 0:
      _run(cli.main, words, said)
    print(json.dumps(_wait(child)), flush=True)


def _run(main, words: list[str], said: str) -> None:
  """Does not return."""
  code = 1
  try:
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    code = main(words)
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait(child: int) -> int | None:
  end = time.monotonic() + LIMIT
  while time.monotonic() < end:
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
      return os.waitstatus_to_exitcode(status)
    time.sleep(0.01)
  os.kill(child, signal.SIGKILL)
  os.waitpid(child, 0)
  return None


if __name__ == "__main__":
  serve()
