"""The layers that models are made of, their sizes named by the letters of an einsum.

The letters, in variable suffixes (`x_BLD`), equations and sharding rules alike:

  B batch        L length            M memory length     N stacked layers
  D width        F mlp width         V vocabulary        E shared embedding
  H heads        G key/value heads   K key size          R query heads of each key/value head
  Y X rows and columns               C channels          P patch values
  J batch again, where its examples are compared with one another
  U buckets of distances between tokens

A weight's letters are its logical axes: it is stored in a box that carries them, and the rules of
an experiment map them to the axes of a mesh. Parameters are float32; layers follow the dtype of
their input.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from research.nn.matmul import contract, contract_all
from research.sharding import gather

Initializer = Callable[..., Array]  # (key, shape, dtype) -> weights


def project(
  equation: str,
  *,
  name: str | None = None,
  bias: bool = False,
  init: Initializer | None = None,
  **sizes: int,
) -> "Project":
  """A linear map: `project("BLD,DHK->BLHK", H=H, K=K)(x_BLD)` is `einsum(equation, x, kernel)`.

  Args:
    equation: of the input and the kernel; the kernel's letters are its logical axes.
    name: the module's name, the last part of its parameters' path.
    bias: adds one, over those letters of the output that the kernel has.
    init: of the kernel; LeCun's normal over the contracted letters where not given.
    **sizes: of the letters that the input does not have.
  """
  return Project(equation, tuple(sorted(sizes.items())), bias, init, name=name)


class Project(nn.Module):
  """What `project` returns."""

  equation: str
  sizes: tuple[tuple[str, int], ...]
  bias: bool
  kernel_init: Initializer | None

  def __call__(self, x: Array) -> Array:
    return contract(self.equation, x, *self.weights(x))

  @nn.compact
  def weights(self, x: Array) -> tuple[Array, Array | None]:
    """The kernel and the bias for an input of the shape of `x`."""
    inputs, letters, outputs = self.equation.replace("->", ",").split(",")
    sizes = dict(zip(inputs, x.shape, strict=True)) | dict(self.sizes)
    init = self.kernel_init or _lecun_normal(letters, contracted=set(inputs) - set(outputs))
    kernel = gather(weight(self, "kernel", init, letters, sizes), letters, x.dtype)
    if not self.bias:
      return kernel, None
    letters = "".join(letter for letter in outputs if letter in letters)
    bias = weight(self, "bias", nn.initializers.zeros, letters, sizes)
    return kernel, gather(bias, letters, x.dtype)


def project_all(x: Array, *projections: Project) -> list[Array]:
  """Several projections of one input, which some machines compute faster together."""
  return contract_all([(p.equation, *p.weights(x)) for p in projections], x)


def weight(
  module: nn.Module, name: str, init: Initializer, letters: str, sizes: dict[str, int]
) -> Array:
  """A float32 parameter of `module` whose axes are `letters`, boxed with their names."""
  shape = tuple(sizes[letter] for letter in letters)
  boxed = nn.with_logical_partitioning(init, tuple(letters))
  return module.param(name, boxed, shape, jnp.float32)


def _lecun_normal(letters: str, contracted: set[str]) -> Initializer:
  """Variance 1 / fan-in, where the fan-in is the product of the contracted letters' sizes."""
  axes_in = [axis for axis, letter in enumerate(letters) if letter in contracted]
  axes_out = [axis for axis, letter in enumerate(letters) if letter not in contracted]
  return nn.initializers.lecun_normal(in_axis=axes_in, out_axis=axes_out)


class Embed(nn.Module):
  """A table of one vector per token, for looking up and, where tied, for predicting.

  Attributes:
    vocab_size, width: of the table, which is float32.
    table_init: of its values.
    dtype: in which the rows of a table that is split over devices travel.
  """

  vocab_size: int
  width: int
  table_init: Initializer = nn.initializers.normal(1.0)
  dtype: str = "float32"

  def setup(self):
    sizes = {"V": self.vocab_size, "D": self.width}
    self.table = weight(self, "table", self.table_init, "VD", sizes)

  def __call__(self, tokens_BL: Array) -> Array:
    """(B, L) int32 -> (B, L, D) float32."""
    # A look-up in a table whose width is split would make the compiler gather it time and again.
    return look_up(gather(self.table, "VD", self.dtype), tokens_BL)


@jax.custom_vjp
def look_up(table_VD: Array, tokens_BL: Array) -> Array:
  """Rows of a table as float32; the gradients of a row that is used often add up in float32."""
  return table_VD[tokens_BL].astype(jnp.float32)


def _look_up_forward(table_VD, tokens_BL):
  return look_up(table_VD, tokens_BL), (jnp.zeros((0, *table_VD.shape), table_VD.dtype), tokens_BL)


def _look_up_backward(saved, gradient_BLD):
  like_0VD, tokens_BL = saved
  total_VD = jnp.zeros(like_0VD.shape[1:], jnp.float32).at[tokens_BL].add(gradient_BLD)
  return total_VD.astype(like_0VD.dtype), None


look_up.defvjp(_look_up_forward, _look_up_backward)


class LayerNorm(nn.Module):
  """Mean 0 and variance 1 over the last axis (Ba et al., 2016), computed in float32."""

  epsilon: float = 1e-5
  bias: bool = True
  letter: str = "D"

  @nn.compact
  def __call__(self, x: Array) -> Array:
    sizes = {self.letter: x.shape[-1]}
    scale = weight(self, "scale", nn.initializers.ones, self.letter, sizes)
    scale = gather(scale, self.letter, jnp.float32)
    y = x.astype(jnp.float32)
    y -= jnp.mean(y, axis=-1, keepdims=True)
    y *= jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.epsilon)
    y *= scale
    if self.bias:
      bias = weight(self, "bias", nn.initializers.zeros, self.letter, sizes)
      y += gather(bias, self.letter, jnp.float32)
    return y.astype(x.dtype)


class RMSNorm(nn.Module):
  """Root mean square 1 over the last axis (Zhang & Sennrich, 2019), computed in float32."""

  epsilon: float = 1e-5
  letter: str = "D"

  @nn.compact
  def __call__(self, x: Array) -> Array:
    sizes = {self.letter: x.shape[-1]}
    scale = weight(self, "scale", nn.initializers.ones, self.letter, sizes)
    scale = gather(scale, self.letter, jnp.float32)
    y = x.astype(jnp.float32)
    y *= jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.epsilon)
    return (y * scale).astype(x.dtype)


class Dropout(nn.Module):
  """Zeros each value with probability `rate`, and scales the rest; acts iff a key was given."""

  rate: float

  def acts(self) -> bool:
    """Whether calling this changes anything: kernels that cannot drop ask it."""
    return self.rate > 0 and self.has_rng("dropout")

  @nn.compact
  def __call__(self, x: Array) -> Array:
    if not self.acts():
      return x
    kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, x.shape)
    return jnp.where(kept, x / (1 - self.rate), 0).astype(x.dtype)
