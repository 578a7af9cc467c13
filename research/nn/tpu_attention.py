"""Attention on a TPU: splash attention (a Pallas kernel of JAX), which skips what a mask hides."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

from research.nn.masks import Mask
from research.nn.shared_heads import spread
from research.sharding import active

LANES = 128  # a TPU's vector registers are so wide; lengths are cut into whole ones
BLOCK = 512  # queries, and keys, at a time


def attend(
  q_BLHK: Array, k_BMGK: Array, v_BMGK: Array, mask: Mask | None, *, interpret: bool = False
) -> Array | None:
  """As `attention.attend`, or None where the kernel does not know the mask or the lengths.

  Args:
    interpret: runs the kernel's own program on any machine, slowly.
  """
  mask = mask or Mask()
  L, M = q_BLHK.shape[1], k_BMGK.shape[1]
  if L % LANES or M % LANES or mask.offset is not None or mask.prefix_B is not None:
    return None
  if mask.window is not None and mask.positions_BL is not None:
    return None
  segments = None
  if mask.segments_BL is not None:
    of_memory = mask.memory_segments_BM
    segments = (mask.segments_BL, mask.segments_BL if of_memory is None else of_memory)
  attention, layout = functools.partial(_local, mask.causal, mask.window, interpret), active()
  if layout is not None:
    q_spec = layout.spec("BLHK", q_BLHK.shape)
    parts = layout.shards((q_spec[1],))
    # The kernel counts positions from the first query that it has, and takes whole vectors.
    if parts > 1 and (mask.causal or mask.window is not None or L // parts % LANES):
      return None
    k_BMGK, v_BMGK = (spread(q_BLHK, x, layout) for x in (k_BMGK, v_BMGK))
    k_spec = layout.spec("B.HK", k_BMGK.shape)
    ids = segments and (layout.spec("BL", (len(q_BLHK), L)), layout.spec("B.", (len(k_BMGK), M)))
    attention = jax.shard_map(
      attention,
      mesh=layout.mesh,
      in_specs=(q_spec, k_spec, k_spec, ids),
      out_specs=q_spec,
      check_vma=False,
    )
  y_BLHK = attention(q_BLHK, k_BMGK, v_BMGK, segments)
  if segments is None:
    return y_BLHK
  return jnp.where(_seeing(mask, L, M)[:, :, None, None], y_BLHK, 0)


def _seeing(mask: Mask, L: int, M: int) -> Array:
  """Bool, (B, L): which queries see anything; the kernel gives the others a mean of everything.

  Padding is a segment like any other to the kernel. In a text to itself all else sees itself.
  """
  if mask.memory_segments_BM is None:
    return mask.segments_BL > 0
  return jnp.any(mask.dense(L, M), axis=-1)[:, 0]


def _local(causal, window, interpret, q_BLHK, k_BMGK, v_BMGK, segments):
  """The kernel on one device's rows and heads."""
  _, L, H, K = q_BLHK.shape
  M = k_BMGK.shape[1]
  kernel = _kernel(causal, window, interpret, H, L, M)
  q_BHLK, k_BGMK, v_BGMK = (jnp.swapaxes(x, 1, 2) for x in (q_BLHK * K**-0.5, k_BMGK, v_BMGK))
  if segments is None:
    y_BHLK = jax.vmap(kernel)(q_BHLK, k_BGMK, v_BGMK)
  else:
    y_BHLK = jax.vmap(kernel)(q_BHLK, k_BGMK, v_BGMK, splash.SegmentIds(*segments))
  return jnp.swapaxes(y_BHLK, 1, 2)


def _kernel(causal: bool, window: int | None, interpret: bool, heads: int, L: int, M: int):
  if window is not None:
    one = masks.LocalMask((L, M), (window - 1, 0 if causal else window - 1), offset=0)
  else:
    one = masks.CausalMask((L, M)) if causal else masks.FullMask((L, M))
  queries, keys = (next(n for n in range(BLOCK, 0, -LANES) if size % n == 0) for size in (L, M))
  return splash.make_splash_mha(
    masks.MultiHeadMask([one] * heads),
    head_shards=1,
    q_seq_shards=1,
    block_sizes=splash.BlockSizes(
      block_q=queries,
      block_kv=keys,
      block_kv_compute=keys,
      block_q_dkv=queries,
      block_kv_dkv=keys,
      block_kv_dkv_compute=keys,
      block_q_dq=queries,
      block_kv_dq=keys,
    ),
    residual_checkpoint_name="attended",
    interpret=interpret,
  )
