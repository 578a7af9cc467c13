"""How fast this machine reads its memory, measured when asked; `flops.peak` measures products."""

import os
import threading
import time

import numpy as np

BYTES = 2**30


def memory_speed() -> float:
  """Bytes per second that all cores of this process read from the host's memory."""
  x = np.ones(BYTES // 4, np.float32)
  parts = np.array_split(x, len(os.sched_getaffinity(0)))

  def seconds() -> float:
    readers = [threading.Thread(target=part.max) for part in parts]
    began = time.perf_counter()
    for reader in readers:
      reader.start()
    for reader in readers:
      reader.join()
    return time.perf_counter() - began

  return BYTES / min(seconds() for _ in range(6))
