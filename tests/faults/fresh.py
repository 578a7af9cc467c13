"""The command line in processes of their own, which find everything imported and JAX asleep."""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import traceback
from pathlib import Path

from .commands import LIMIT, QUICK


def research(*words: str, said: Path) -> int | None:
  """Runs a command; what it prints is appended to `said`.

  Returns:
    The exit code (-n for signal n), or None where it had not ended after `LIMIT` seconds.
  """
  process = _server().Process(target=_main, args=(words, said))
  process.start()
  process.join(LIMIT)
  code = process.exitcode
  process.kill()
  process.join()
  process.close()
  return code


@functools.cache
def _server() -> multiprocessing.context.ForkServerContext:
  """It imports once, and forks a child for each command before JAX has a backend."""
  context = multiprocessing.get_context("forkserver")
  context.set_forkserver_preload(["research.commands", "research.train", "research.report"])
  return context


def _main(words: tuple[str, ...], said: Path) -> None:
  file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.dup2(file, 1)
  os.dup2(file, 2)
  os.environ["XLA_FLAGS"] = QUICK
  from research import cli

  code = 1
  try:
    code = cli.main(list(words))
  except BaseException:
    traceback.print_exc()
  sys.exit(code)
