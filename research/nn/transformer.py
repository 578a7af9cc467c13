"""Transformer layers: attention and an MLP, each with its norm and its sum."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from research.nn import cpu
from research.nn.attention import Attention
from research.nn.layers import Dropout, Initializer, LayerNorm, RMSNorm, project, project_all
from research.nn.masks import Mask
from research.nn.matmul import contract
from research.nn.platform import fence, settle, settle_gradient
from research.nn.rotary import Scaling
from research.sharding import constrain

NORMS = {"layer": LayerNorm, "rms": RMSNorm}
NORM_POSITIONS = ("pre", "post")
ACTIVATIONS = {
  "relu": jax.nn.relu,
  "gelu": jax.nn.gelu,  # by tanh, as in GPT
  "gelu_exact": lambda x: jax.nn.gelu(x, approximate=False),
  "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),  # CLIP
  "swish": jax.nn.silu,
  "swiglu": jax.nn.silu,  # of the gate; Shazeer, 2020
  "geglu": jax.nn.gelu,
  "geglu_exact": lambda x: jax.nn.gelu(x, approximate=False),
}
GATED = ("swiglu", "geglu", "geglu_exact")


class Block(nn.Module):
  """One layer: attention to itself, to a memory where one is given, and an MLP, each residual.

  Attributes:
    heads, kv_heads, key_size, rotary, rotary_scaling, scaled, kernel_init, out_init: as of
      `Attention`.
    bias: of all projections.
    qkv_bias, out_bias: of those of attention; as `bias` where not given.
    qk_norm: whether queries and keys are normed, see `Attention`.
    hidden: width of the MLP.
    dropout: of what each residual branch adds.
    attention_dropout: of the attention weights; as `dropout` where not given.
    norm: "layer" or "rms".
    norm_position: "pre", x + f(norm(x)), or "post", norm(x + f(x)) (Vaswani et al., GPT-1).
    activation: of the MLP, one of `ACTIVATIONS`.
    window: narrows the mask to a band.
  """

  heads: int
  hidden: int
  kv_heads: int | None = None
  key_size: int | None = None
  norm: str = "layer"
  norm_position: str = "pre"
  activation: str = "gelu"
  rotary: float | None = None
  rotary_scaling: Scaling | None = None
  window: int | None = None
  bias: bool = True
  qkv_bias: bool | None = None
  out_bias: bool | None = None
  qk_norm: bool = False
  scaled: bool = True
  dropout: float = 0.0
  attention_dropout: float | None = None
  epsilon: float = 1e-5
  kernel_init: Initializer | None = None
  out_init: Initializer | None = None

  @nn.compact
  def __call__(
    self,
    x_BLD: Array,
    mask: Mask | None = None,
    positions_BL: Array | None = None,
    memory_BMD: Array | None = None,
    memory_mask: Mask | None = None,
    bias_BHLM: Array | None = None,
  ) -> Array:
    """(B, L, D) -> (B, L, D); the bias is of the attention to itself."""
    inits = {"kernel_init": self.kernel_init, "out_init": self.out_init}
    dropout = self.dropout if self.attention_dropout is None else self.attention_dropout
    shared = {
      "bias": self.bias if self.qkv_bias is None else self.qkv_bias,
      "out_bias": self.bias if self.out_bias is None else self.out_bias,
      "norm_epsilon": self.epsilon if self.qk_norm else None,
      "scaled": self.scaled,
      "dropout": dropout,
      **inits,
    }
    heads = (self.heads, self.kv_heads, self.key_size)
    rotary = {"rotary": self.rotary, "rotary_scaling": self.rotary_scaling}
    attention = Attention(*heads, **rotary, **shared, name="attention")
    if self.window is not None:
      mask = (mask or Mask()).narrow(self.window)
    x_BLD = constrain(x_BLD, "BLD")
    x_BLD = self._residual(x_BLD, attention, None, mask, positions_BL, bias_BHLM)
    if memory_BMD is not None:
      attention = Attention(*heads, **shared, name="cross_attention")
      x_BLD = self._residual(x_BLD, attention, memory_BMD, memory_mask)
    mlp = MLP(self.hidden, self.activation, self.bias, **inits, name="mlp")
    return self._residual(x_BLD, mlp)

  def _residual(self, x_BLD: Array, layer: nn.Module, *inputs: Any) -> Array:
    norm = NORMS[self.norm](self.epsilon, name=f"{layer.name}_norm")
    dropout = Dropout(self.dropout)
    if self.norm_position == "pre":
      return fence(x_BLD + dropout(layer(norm(x_BLD), *inputs)))
    return norm(fence(x_BLD + dropout(layer(x_BLD, *inputs))))


class MLP(nn.Module):
  """Two projections with an activation between; a gated activation has a third, its gate."""

  hidden: int
  activation: str = "gelu"
  bias: bool = True
  kernel_init: Initializer | None = None
  out_init: Initializer | None = None

  @nn.compact
  def __call__(self, x_BLD: Array) -> Array:
    D = x_BLD.shape[-1]
    shared = {"bias": self.bias, "init": self.kernel_init, "F": self.hidden}
    names = ("gate", "up") if self.activation in GATED else ("up",)
    ways = [project("BLD,DF->BLF", **shared, name=name) for name in names]
    *gate, up_BLF = settle_gradient(checkpoint_name(project_all(x_BLD, *ways), "hidden"))
    hidden_BLF = settle(_activate(self.activation, *settle(gate), up_BLF))
    down = project("BLF,FD->BLD", D=D, bias=self.bias, init=self.out_init, name="down")
    kernel, bias = down.weights(hidden_BLF)
    # Both gradients at once, so that the widest states are forgotten before the next are made.
    hidden_BLF, kernel = settle_gradient((hidden_BLF, kernel))
    return checkpoint_name(contract(down.equation, hidden_BLF, kernel, bias), "projected")


def _activate(activation: str, x: Array, *factors: Array) -> Array:
  """The activation times the factors, computed in float32."""
  if not factors and cpu.applies() and (y := cpu.activate(activation, x)) is not None:
    return y
  return _activated(activation, x, *factors)


@functools.partial(jax.checkpoint, static_argnums=0)
def _activated(activation: str, x: Array, *factors: Array) -> Array:
  """One pass over the memory; the backward pass makes its intermediate values again."""
  y = ACTIVATIONS[activation](x.astype(jnp.float32))
  for factor in factors:
    y *= factor.astype(jnp.float32)
  return y.astype(x.dtype)
