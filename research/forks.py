"""Where the processes of a sweep come from: a server that has imported much and computed nothing.

To import JAX and this library takes some two seconds, more than many small runs. A server imports
them once; each run is a fork of it, made in a hundredth of a second. It is Python's own
`forkserver`. Whoever asks for it before importing them itself does so beside it.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import multiprocessing.forkserver
import os
import platform

from research import memory

PRELOADED = "research.sweep.preloaded"


def context() -> multiprocessing.context.BaseContext:
  """What starts processes; its server runs from the first call on, until this process ends."""
  made = multiprocessing.get_context("forkserver")
  made.set_forkserver_preload([PRELOADED])
  # The server, and all forks of it, are started as `research run` is: see `memory.restart`.
  before = os.environ.get(memory.ENVIRONMENT)
  if before is None and platform.libc_ver()[0] == "glibc":
    os.environ[memory.ENVIRONMENT] = memory.tunables()
  try:
    multiprocessing.forkserver.ensure_running()
  finally:
    if before is None:
      os.environ.pop(memory.ENVIRONMENT, None)
  return made
