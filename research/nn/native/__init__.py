"""Kernels in C++ for CPUs with AVX-512 and bfloat16, reached through XLA's foreign functions.

They are never needed: without a compiler, or on another processor, `available()` is False and the
callers go on in plain JAX. RESEARCH_NATIVE=0 turns them off.

library      compiles the sources on first use and keeps the result
attention    softmax(q k) v and its gradient without storing scores
activations  GELU and its like in one pass
few_queries  attention to a cache, for decoding
vectors      products of few rows and a weight, for decoding
products     products of bfloat16 matrices, where the processor has instructions for matrices
"""

from research.nn.native.activations import KINDS as ACTIVATIONS
from research.nn.native.activations import activation
from research.nn.native.activations import fits as activation_fits
from research.nn.native.attention import attention
from research.nn.native.attention import fits as attention_fits
from research.nn.native.few_queries import few_queries
from research.nn.native.few_queries import fits as few_queries_fit
from research.nn.native.library import available, matrix_tiles
from research.nn.native.products import fits as product_fits
from research.nn.native.products import product
from research.nn.native.vectors import fits as vectors_fit
from research.nn.native.vectors import vectors

__all__ = [
  "ACTIVATIONS",
  "activation",
  "activation_fits",
  "attention",
  "attention_fits",
  "available",
  "few_queries",
  "few_queries_fit",
  "matrix_tiles",
  "product",
  "product_fits",
  "vectors",
  "vectors_fit",
]
