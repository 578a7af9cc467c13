"""Attention (Vaswani et al., 2017): every query mixes the values whose keys are like it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from research.errors import UserError
from research.nn import cpu, cpu_attention, gpu_attention, ring_attention
from research.nn.layers import Dropout, Initializer, RMSNorm, project, project_all
from research.nn.masks import Mask
from research.nn.platform import platform
from research.nn.rotary import Scaling, rotate
from research.sharding import active


class Attention(nn.Module):
  """Multi-head attention of a text to itself, or to a memory from elsewhere.

  While a "cache" collection is mutable, keys and values are kept: those of the text so far when
  the mask says where in it the queries stand (`Mask.offset`, see `nn/history.py`), and those of a
  memory, which is then projected only once.

  Attributes:
    heads: query heads.
    kv_heads: key and value heads, shared by heads / kv_heads queries each (Ainslie et al., 2023,
      grouped queries); as many as `heads` where not given.
    key_size: of one head; the width divided by `heads` where not given.
    rotary: the base of rotary positions of a text to itself; none where not given.
    rotary_scaling: how these are stretched, see `rotary.py`.
    bias: of the projections of queries, keys and values.
    out_bias: of the last projection; as `bias` where not given.
    norm_epsilon: of a norm of each query and key (Henry et al., 2020; by RMS as in Qwen 3); None
      has no such norms.
    scaled: whether scores are divided by sqrt(K); otherwise queries begin smaller (T5).
    dropout: of the attention weights.
    kernel_init, out_init: of the first three kernels, and of the last.
  """

  heads: int
  kv_heads: int | None = None
  key_size: int | None = None
  rotary: float | None = None
  rotary_scaling: Scaling | None = None
  bias: bool = True
  out_bias: bool | None = None
  norm_epsilon: float | None = None
  scaled: bool = True
  dropout: float = 0.0
  kernel_init: Initializer | None = None
  out_init: Initializer | None = None

  @nn.compact
  def __call__(
    self,
    x_BLD: Array,
    memory_BMD: Array | None = None,
    mask: Mask | None = None,
    positions_BL: Array | None = None,
    bias_BHLM: Array | None = None,
  ) -> Array:
    """(B, L, D) -> (B, L, D).

    Args:
      x_BLD: what asks.
      memory_BMD: what is looked at; `x_BLD` itself where not given.
      mask: who sees whom.
      positions_BL: for rotary positions only.
      bias_BHLM: added to the scores, of one row or of B; see `positions.RelativeBias`.
    """
    D, H, G = x_BLD.shape[-1], self.heads, self.kv_heads or self.heads
    K = self.key_size or D // H
    shared = {"bias": self.bias, "init": self.kernel_init, "K": K}
    query_init = self.kernel_init if self.scaled else _smaller(self.kernel_init, K)
    keeping = self.is_mutable_collection("cache") and not self.is_initializing()

    query = project("BLD,DHK->BLHK", **{**shared, "init": query_init}, H=H, name="query")
    key = project("BMD,DGK->BMGK", **shared, G=G, name="key")
    value = project("BMD,DGK->BMGK", **shared, G=G, name="value")
    if memory_BMD is None:
      q_BLHK, k_BMGK, v_BMGK = project_all(x_BLD, query, key, value)
      q_BLHK, k_BMGK = self._normed("query", q_BLHK), self._normed("key", k_BMGK)
      if self.rotary:
        q_BLHK = rotate(q_BLHK, positions_BL, self.rotary, self.rotary_scaling)
        k_BMGK = rotate(k_BMGK, positions_BL, self.rotary, self.rotary_scaling)
      if keeping and mask is not None and mask.offset is not None:
        k_BMGK = self._append("keys", k_BMGK, mask)
        v_BMGK = self._append("values", v_BMGK, mask)
    else:
      q_BLHK = self._normed("query", query(x_BLD))
      if keeping and self.has_variable("cache", "keys"):
        k_BMGK, v_BMGK = self.get_variable("cache", "keys"), self.get_variable("cache", "values")
      else:
        k_BMGK, v_BMGK = project_all(memory_BMD, key, value)
        k_BMGK = self._normed("key", k_BMGK)
      if keeping:
        self.put_variable("cache", "keys", k_BMGK)
        self.put_variable("cache", "values", v_BMGK)

    q_BLHK, k_BMGK, v_BMGK = checkpoint_name((q_BLHK, k_BMGK, v_BMGK), "qkv")
    scale = None if self.scaled else 1.0
    y_BLHK = attend(q_BLHK, k_BMGK, v_BMGK, mask, Dropout(self.dropout), bias_BHLM, scale)
    bias = self.bias if self.out_bias is None else self.out_bias
    out = project("BLHK,HKD->BLD", D=D, bias=bias, init=self.out_init, name="out")
    return checkpoint_name(out(y_BLHK), "projected")

  def _normed(self, name: str, x_BLHK: Array) -> Array:
    if self.norm_epsilon is None:
      return x_BLHK
    return RMSNorm(self.norm_epsilon, letter="K", name=f"{name}_norm")(x_BLHK)

  def _append(self, name: str, new_BLGK: Array, mask: Mask) -> Array:
    """Writes what is new into the cache at the mask's offset, and returns the whole cache."""
    B, _, G, K = new_BLGK.shape
    M = mask.memory_segments_BM.shape[1]
    cache = self.variable("cache", name, jnp.zeros, (B, M, G, K), new_BLGK.dtype)
    cache.value = jax.lax.dynamic_update_slice(cache.value, new_BLGK, (0, mask.offset, 0, 0))
    return cache.value


def attend(
  q_BLHK: Array,
  k_BMGK: Array,
  v_BMGK: Array,
  mask: Mask | None = None,
  dropout: Dropout | None = None,
  bias_BHLM: Array | None = None,
  scale: float | None = None,
) -> Array:
  """softmax(scale q k + bias) v under a mask, the softmax in float32: (B, L, H, K).

  Each of the G key/value heads serves H / G neighbouring query heads. The scale is 1 / sqrt(K)
  where not given. A query that sees nothing gets zeros. Of the kernels, the one for few
  queries takes a bias.

  Raises:
    UserError: G does not divide H.
  """
  heads, kv_heads = q_BLHK.shape[2], k_BMGK.shape[2]
  if heads % kv_heads:
    raise UserError(
      f"kv_heads={kv_heads} does not divide heads={heads}; choose one that does, since each serves "
      "equally many query heads."
    )
  whole = dropout is None or not dropout.acts()
  if whole and cpu.applies():
    factor = q_BLHK.shape[-1] ** -0.5 if scale is None else scale
    y_BLHK = cpu_attention.attend_few(q_BLHK, k_BMGK, v_BMGK, mask, bias_BHLM, factor)
    if y_BLHK is not None:
      return checkpoint_name(y_BLHK, "attended")
  if whole and bias_BHLM is None:
    # Kernels divide by sqrt(K) themselves.
    as_scaled = q_BLHK if scale is None else q_BLHK * (scale * q_BLHK.shape[-1] ** 0.5)
    y_BLHK = _by_kernel(as_scaled, k_BMGK, v_BMGK, mask)
    if y_BLHK is not None:
      return y_BLHK
  B, L, H, K = q_BLHK.shape
  M, G = k_BMGK.shape[1:3]
  q_BLGRK = q_BLHK.reshape(B, L, G, H // G, K)
  scores_BGRLM = jnp.einsum(
    "BLGRK,BMGK->BGRLM", q_BLGRK, k_BMGK, preferred_element_type=jnp.float32
  )
  scores_BGRLM *= K**-0.5 if scale is None else scale
  if bias_BHLM is not None:
    scores_BGRLM += bias_BHLM.reshape(-1, G, H // G, L, M)
  if mask is None:
    weights_BGRLM = jax.nn.softmax(scores_BGRLM)
  else:
    visible_B11LM = mask.dense(L, M)[:, :, None]
    lowest = jnp.finfo(jnp.float32).min
    weights_BGRLM = jax.nn.softmax(jnp.where(visible_B11LM, scores_BGRLM, lowest))
    weights_BGRLM = jnp.where(visible_B11LM, weights_BGRLM, 0)
  if dropout is not None:
    weights_BGRLM = dropout(weights_BGRLM)
  y_BLGRK = jnp.einsum("BGRLM,BMGK->BLGRK", weights_BGRLM.astype(v_BMGK.dtype), v_BMGK)
  return checkpoint_name(y_BLGRK.reshape(B, L, H, K), "attended")


def _smaller(init: Initializer | None, K: int) -> Initializer:
  """Queries that need no division of the scores, and learn as fast as if there was one."""
  init = init or nn.initializers.lecun_normal(in_axis=0, out_axis=(1, 2))
  return lambda *arguments: K**-0.5 * init(*arguments)


def _by_kernel(q_BLHK: Array, k_BMGK: Array, v_BMGK: Array, mask: Mask | None) -> Array | None:
  """What this machine has for such inputs, its result named for the remat policies; or None."""
  layout = active()
  to_itself = q_BLHK.shape[1] == k_BMGK.shape[1] and (mask is None or mask.offset is None)
  if layout is not None and to_itself and layout.spec("BL", q_BLHK.shape[:2])[1]:
    y_BLHK = ring_attention.attend(q_BLHK, k_BMGK, v_BMGK, mask or Mask(), layout)
  elif cpu.applies():
    y_BLHK = cpu_attention.attend(q_BLHK, k_BMGK, v_BMGK, mask)
  elif platform() == "gpu":
    y_BLHK = gpu_attention.attend(q_BLHK, k_BMGK, v_BMGK, mask)
  elif platform() == "tpu":
    from research.nn import tpu_attention  # Pallas takes a second to import

    return tpu_attention.attend(q_BLHK, k_BMGK, v_BMGK, mask)  # has named what it saves
  else:
    return None
  return None if y_BLHK is None else checkpoint_name(y_BLHK, "attended")
