"""Attention of few queries in C++ (`few_queries.cc`), for decoding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from research.nn.native.library import target

QUERIES, LANES = 8, 16  # at most; values of a vector


def fits(q_BLHK: Array, k_BMGK: Array, v_BMGK: Array) -> bool:
  """Whether there are few queries, of whole vectors."""
  dtypes = {q_BLHK.dtype, k_BMGK.dtype, v_BMGK.dtype}
  known = dtypes in ({jnp.dtype("float32")}, {jnp.dtype("bfloat16")})
  return known and q_BLHK.shape[1] <= QUERIES and q_BLHK.shape[-1] % LANES == 0


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def few_queries(
  scale: float, q_BLHK: Array, k_BMGK: Array, v_BMGK: Array, added_BHLM: Array
) -> Array:
  """softmax(scale q k + added) v: (B, L, H, K), zeros for a query that sees nothing.

  Args:
    scale: of the scores.
    added_BHLM: float32, of one row and head or of all; -inf hides.
  """
  like = jax.ShapeDtypeStruct(q_BLHK.shape, q_BLHK.dtype)
  call = jax.ffi.ffi_call(target("FewQueries"), like, vmap_method="sequential")
  return call(q_BLHK, k_BMGK, v_BMGK, added_BHLM, scale=np.float32(scale))


def _forward(scale, *inputs):
  return few_queries(scale, *inputs), inputs


def _backward(scale, inputs, dy_BLHK):
  """Of the plain one: who decodes asks for no gradient."""
  return jax.vjp(functools.partial(_plain, scale), *inputs)[1](dy_BLHK)


few_queries.defvjp(_forward, _backward)


def _plain(scale, q_BLHK, k_BMGK, v_BMGK, added_BHLM):
  repeated = q_BLHK.shape[2] // k_BMGK.shape[2]
  k_BMHK, v_BMHK = (jnp.repeat(x, repeated, axis=2) for x in (k_BMGK, v_BMGK))
  scores_BHLM = scale * jnp.einsum(
    "BLHK,BMHK->BHLM", q_BLHK, k_BMHK, preferred_element_type=jnp.float32
  )
  seen_BHLM = added_BHLM > -jnp.inf
  lowest = jnp.finfo(jnp.float32).min
  scores_BHLM = jnp.where(seen_BHLM, scores_BHLM + jnp.where(seen_BHLM, added_BHLM, 0), lowest)
  weights_BHLM = jnp.where(seen_BHLM, jax.nn.softmax(scores_BHLM), 0).astype(v_BMHK.dtype)
  return jnp.einsum("BHLM,BMHK->BLHK", weights_BHLM, v_BMHK)
