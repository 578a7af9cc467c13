"""Memory that a step frees is there for the next one, without the system in between."""

import os
import platform
import subprocess
import sys

import pytest

from research import memory

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
# A hundred times 64 MB written and freed: at 4 kB a page, 1.6 million faults where it is unmapped.
PROGRAM = """
import ctypes, resource, sys
from research import memory
{}
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def work():
  piece = libc.malloc(2**26)
  ctypes.memset(piece, 1, 2**26)
  libc.free(piece)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100): work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, sys.argv[1:])
"""


def faults(line):
  environment = {k: v for k, v in os.environ.items() if k != memory.ENVIRONMENT}
  words = [sys.executable, "-c", PROGRAM.format(line), "a word", "--flag"]
  done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
  count, rest = done.stdout.split(" ", 1)
  assert rest.strip() == "['a word', '--flag']"
  return int(count)


@GLIBC
@pytest.mark.parametrize("line", ["memory.keep()", "memory.restart()"])
def test_what_is_freed_stays_with_the_process(line):
  assert faults(line) < 1_000 < faults("")


@GLIBC
def test_who_has_set_tunables_keeps_them(monkeypatch):
  monkeypatch.setenv(memory.ENVIRONMENT, "glibc.malloc.check=0")
  monkeypatch.setattr(os, "execv", lambda *words: pytest.fail("started again"))
  memory.restart()
  assert os.environ[memory.ENVIRONMENT] == "glibc.malloc.check=0"
