"""Eight fake devices on the CPU, a cache folder that is thrown away, and nothing left behind."""

import os
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "")
  + " --xla_force_host_platform_device_count=8"
  # Almost all of the time goes into compiling; what is compiled runs for milliseconds.
  + " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
# One cache for the whole run of the tests, so that a corpus is prepared once and not per test.
_cache = tempfile.TemporaryDirectory(prefix="research-tests-")
os.environ.setdefault("RESEARCH_CACHE", _cache.name)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.environ["RESEARCH_CACHE"] + "/programs")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def pytest_addoption(parser):
  parser.addoption(
    "--update-golden", action="store_true", help="rewrite tests/golden from the experiments"
  )


def pytest_configure(config):
  config.addinivalue_line(
    "markers", "slow: takes more than ten seconds; `-m 'not slow'` goes without"
  )
