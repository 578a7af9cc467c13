"""The limits of this machine, measured when they are asked for."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np

GIBIBYTE = 2**30


def products(dtype: str) -> float:
  """FLOP/s of a large matrix product with operands of `dtype` and float32 sums, on all devices."""
  on_cpu = jax.default_backend() == "cpu"
  n = 2048 if on_cpu else 8192
  # Products as the models make them.
  product = jax.jit(lambda a, b: jnp.dot(a, b, preferred_element_type=jnp.float32))
  a = jnp.ones((n, n), dtype)
  jax.block_until_ready(product(a, a))
  best = min(_seconds(lambda: jax.block_until_ready(product(a, a))) for _ in range(5))
  return 2.0 * n**3 / best * (1 if on_cpu else jax.device_count())


def memory(threads: int = 2) -> float:
  """Bytes per second that `threads` read from the host's memory."""
  x = np.ones(GIBIBYTE // 4, np.float32)
  parts = np.array_split(x, threads)

  def read():
    readers = [threading.Thread(target=part.max) for part in parts]
    for reader in readers:
      reader.start()
    for reader in readers:
      reader.join()

  read()
  return x.nbytes / min(_seconds(read) for _ in range(5))


def _seconds(run) -> float:
  began = time.perf_counter()
  run()
  return time.perf_counter() - began
