"""Compiles the C++ kernels on first use, keeps the library, and hands its functions to XLA."""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax

from research.disk import sync

SOURCES = Path(__file__).parent
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC")
NEEDED = {"avx512f", "avx512bw", "avx512dq", "avx512_bf16"}
SECONDS = 120

_log = logging.getLogger("research")


def available() -> bool:
  """Whether the kernels can be called; the first question compiles them, in a few seconds."""
  return _kernels() is not None


def matrix_tiles() -> bool:
  """Whether this process may use the processor's matrix instructions (Intel's AMX)."""
  kernels = _kernels()
  return kernels is not None and bool(kernels.research_matrix_tiles())


@functools.cache
def _kernels() -> ctypes.CDLL | None:
  """The library, its functions known to XLA; or None, and once, as a log line, why."""
  if os.environ.get("RESEARCH_NATIVE") == "0":
    return None
  try:
    library = ctypes.CDLL(str(_library()))
    for symbol in symbols():
      capsule = jax.ffi.pycapsule(getattr(library, symbol))
      jax.ffi.register_ffi_target(target(symbol), capsule, platform="cpu")
  except Exception as error:  # a kernel that is not there must never end a run
    _log.info("no native CPU kernels, plain JAX instead: %s", error)
    return None
  library.research_matrix_tiles.restype = ctypes.c_bool
  return library


def target(symbol: str) -> str:
  """The name under which XLA knows a function."""
  return f"research.{symbol}"


def symbols() -> list[str]:
  """The functions that the sources define."""
  text = "".join(path.read_text() for path in sorted(SOURCES.glob("*.cc")))
  return re.findall(r"XLA_FFI_DEFINE_HANDLER_SYMBOL\(\s*(\w+)", text)


def _library() -> Path:
  """The compiled library, from the cache where it is there.

  Raises:
    RuntimeError: this machine has no such processor or no compiler, or it failed.
  """
  processor = _processor()
  if missing := NEEDED - set(processor.split()):
    raise RuntimeError(f"this processor lacks {', '.join(sorted(missing))}")
  compiler = shutil.which(os.environ.get("CXX", "g++"))
  if compiler is None:
    raise RuntimeError("there is no C++ compiler; install g++")
  version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)  # noqa: S603 (the user's compiler)
  files = sorted([*SOURCES.glob("*.cc"), *SOURCES.glob("*.h")])
  parts = [jax.__version__, processor, version.stdout, *FLAGS, *(f.read_text() for f in files)]
  name = hashlib.blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()
  final = _cache() / "native" / f"{name}.so"
  if not final.exists():
    _compile(compiler, [f for f in files if f.suffix == ".cc"], final)
  return final


def _compile(compiler: str, sources: list[Path], final: Path) -> None:
  _log.info("compiling CPU kernels, once on this machine")
  final.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=final.parent) as folder:
    made = Path(folder) / "kernels.so"
    command = [compiler, *FLAGS, f"-I{jax.ffi.include_dir()}", "-c"]
    # side by side: a signal that asks a run to stop is answered after this, so it must be short
    with ThreadPoolExecutor() as pool:
      compiled = [
        pool.submit(_call, [*command, str(source), "-o", f"{folder}/{source.stem}.o"])
        for source in sources
      ]
    for each in compiled:
      each.result()
    objects = [f"{folder}/{source.stem}.o" for source in sources]
    _call([compiler, "-shared", *objects, "-o", str(made)])
    sync(made)
    made.replace(final)  # whole or not at all, whoever else compiles it now


def _call(command: list[str]) -> None:
  done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)  # noqa: S603 (our files)
  if done.returncode:
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    raise RuntimeError(f"{command[0]} failed: {(errors or ['no message'])[0]}")


def _processor() -> str:
  """What this machine's processor calls itself and can do."""
  if platform.machine() != "x86_64" or not sys.platform.startswith("linux"):
    return platform.machine()
  lines = Path("/proc/cpuinfo").read_text().splitlines()
  return " ".join(
    next((line.partition(":")[2] for line in lines if line.startswith(key)), "")
    for key in ("model name", "flags")
  )


def _cache() -> Path:
  """Where `research/data/cache.py` keeps its files too; nn lies below data and cannot ask it."""
  if given := os.environ.get("RESEARCH_CACHE"):
    return Path(given).expanduser()
  return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "research"
