"""Attention on a GPU: cuDNN's flash attention, through `jax.nn.dot_product_attention`."""

import jax
import jax.numpy as jnp
from jax import Array

from research.nn.masks import Mask
from research.nn.shared_heads import spread
from research.sharding import active, constrain

LARGEST_KEY = 128  # of one head, that the kernel's backward pass takes


def attend(
  q_BLHK: Array, k_BMGK: Array, v_BMGK: Array, mask: Mask | None, *, kernel: str = "cudnn"
) -> Array | None:
  """As `attention.attend`, or None where the kernel does not take the numbers.

  Args:
    kernel: the implementation that JAX is asked for.
  """
  mask = mask or Mask()
  L, M, K = q_BLHK.shape[1], k_BMGK.shape[1], q_BLHK.shape[-1]
  if q_BLHK.dtype not in (jnp.bfloat16, jnp.float16) or K % 8 or K > LARGEST_KEY or L % 2 or M % 2:
    return None
  if (layout := active()) is not None:
    if layout.parts("L") > 1:
      return None  # cuDNN takes no part of a text, nor keys that are split unlike queries
    k_BMGK, v_BMGK = (constrain(spread(q_BLHK, x, layout), "B.HK") for x in (k_BMGK, v_BMGK))
  by_arrays = (mask.segments_BL, mask.positions_BL, mask.prefix_B, mask.offset)
  both_ways = mask.window is not None and not mask.causal  # a band that cuDNN does not know
  if both_ways or any(array is not None for array in by_arrays):
    visible_B1LM = mask.dense(L, M)
    y_BLHK = jax.nn.dot_product_attention(
      q_BLHK, k_BMGK, v_BMGK, mask=visible_B1LM, implementation=kernel
    )
    # Where nothing is seen the kernel's softmax is a mean of everything.
    return jnp.where(jnp.any(visible_B1LM, axis=-1)[:, 0, :, None, None], y_BLHK, 0)
  sides = None if mask.window is None else (mask.window - 1, 0)
  return jax.nn.dot_product_attention(
    q_BLHK,
    k_BMGK,
    v_BMGK,
    is_causal=mask.causal,
    local_window_size=sides,
    implementation=kernel,
  )
