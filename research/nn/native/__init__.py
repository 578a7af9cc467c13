"""Kernels in C++."""


def available(kernel: str) -> bool:
  return False
