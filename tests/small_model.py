"""A model with the names and letters of a transformer that compiles in a moment: no attention."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.metrics import Mean
from research.nn.layers import Embed, project
from research.nn.stack import Stack


class Layer(nn.Module):
  heads: int

  @nn.compact
  def __call__(self, x_BLD):
    D, H = x_BLD.shape[-1], self.heads
    query = project("BLD,DHK->BLHK", H=H, K=D // H, bias=True, name="query")
    out = project("BLHK,HKD->BLD", D=D, bias=True, name="out")
    return x_BLD + out(jnp.tanh(query(x_BLD)))


class Small(nn.Module):
  vocab_size: int = 264
  width: int = 16
  depth: int = 2
  heads: int = 2
  layers: str = "loop"

  def setup(self):
    self.embed = Embed(self.vocab_size, self.width)
    self.blocks = Stack((Layer(self.heads, parent=None),), self.depth, self.layers)
    self.head = project("BLD,DV->BLV", V=self.vocab_size, bias=True)

  def __call__(self, tokens_BL):
    return self.head(self.encode(tokens_BL))

  def encode(self, tokens_BL):
    return self.blocks(self.embed(tokens_BL))


def next_token(model, batch):
  """Nats of the next token."""
  log_p_BLV = jax.nn.log_softmax(model(batch["tokens"]))
  nats_BL = -jnp.take_along_axis(log_p_BLV, batch["targets"][..., None], axis=-1)[..., 0]
  return {"loss": Mean.of(nats_BL, (batch["segments"] > 0).astype(jnp.float32))}
