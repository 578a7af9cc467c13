"""What glibc is told about memory: keep what was freed, and take it in huge pages.

XLA on a CPU allocates what a step needs afresh in every step. Left alone, glibc returns it to the
system in between, and the page faults take a quarter of a training step; in pages of 4 kB the
processor then reads memory a quarter more slowly than in pages of 2 MB. Elsewhere than on Linux
with glibc, and for devices with memory of their own, nothing here matters.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys

# glibc's manual, "Memory Allocation Tunables". The environment is read once, at the start.
TUNABLES = {
  "glibc.malloc.mmap_max": "0",
  "glibc.malloc.trim_threshold": str(2**36),
  "glibc.malloc.arena_max": "1",
  "glibc.malloc.hugetlb": "1",  # madvise; from glibc 2.35 on
}
ENVIRONMENT = "GLIBC_TUNABLES"
# The numbers of mallopt(3), which knows all of them but the last.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def restart() -> None:
  """Starts this program again, at once and as the same process, with the tunables in force.

  Call it before anything is imported that takes long. Whoever has set tunables keeps them.
  """
  if platform.libc_ver()[0] == "glibc" and ENVIRONMENT not in os.environ:
    os.environ[ENVIRONMENT] = tunables()
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 (ourselves, as we were called)


def tunables() -> str:
  """The value of the environment variable."""
  return ":".join(f"{name}={value}" for name, value in TUNABLES.items())


def keep() -> None:
  """Has glibc keep what is freed, in a program that is running already; pages stay small.

  Call it before JAX starts a backend: its threads allocate in arenas of their own that, once they
  are there, give back what is freed.
  """
  if platform.libc_ver()[0] == "glibc" and ENVIRONMENT not in os.environ:
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    libc.mallopt(_ARENA_MAX, 1)
