"""Kernels in C++ for CPUs with AVX-512 and bfloat16, reached through XLA's foreign functions.

They are never needed: without a compiler, or on another processor, `available()` is False and the
callers go on in plain JAX. RESEARCH_NATIVE=0 turns them off.

library      compiles the sources on first use and keeps the result
attention    softmax(q k) v and its gradient without storing scores
rows         the vocabulary loss and layer norm, row by row
vectors      products of few rows and a bfloat16 weight, for decoding
"""

from research.nn.native.attention import attention
from research.nn.native.attention import fits as attention_fits
from research.nn.native.library import available

__all__ = ["attention", "attention_fits", "available"]
