"""An experiment as a user might write it, with a mistake of one's choice.

  research verify tests/planted_faults.py
  research verify tests/planted_faults.py fault=off_by_one_mask

Expect: without a fault everything holds; each fault breaks one check.
"""

import dataclasses
import os
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from research import Eval, Experiment, optim, sharding
from research.metrics import Mean
from research.nn import Dropout, Embed, LayerNorm, LearnedPositions, Stack, project
from research.nn.cross_entropy import unembed
from research.nn.masks import Mask, positions_in_segments


def experiment(fault="", rate=0.1):
  loss = Loss(fault)
  return Experiment(
    name="planted",
    data=Words(length=16, fault=fault),
    model=Reader(vocab_size=32, max_length=16, width=32, depth=2, dropout=rate, fault=fault),
    objective=loss,
    optimizer=optim.AdamW(optim.Constant(1e-3), weight_decay=0.1, clip=1.0),
    steps=100,
    batch_size=16,
    evals={"heldout": Eval(Loss("counts_padding") if fault == "counts_padding" else loss)},
  )


@dataclasses.dataclass(frozen=True)
class Words:
  """Documents of random words, two or three to a row."""

  length: int
  fault: str = ""

  def source(self, split):
    del split
    return Rows(self)


@dataclasses.dataclass(frozen=True)
class Rows:
  words: Words

  def __len__(self):
    return 64

  def take(self, indices, epoch):
    rows = [self.row(i, epoch) for i in indices]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

  def row(self, index, epoch):
    L, fault = self.words.length, self.words.fault
    seed = 100 * epoch + index
    if fault == "random_data":
      seed = time.monotonic_ns() % 2**32
    if fault == "data_by_process":
      seed += os.getpid()
    rng = np.random.RandomState(seed)
    stream = rng.randint(1, 32, L + 1)
    segments = 1 + (np.arange(L) >= 2 * L // 3)
    positions = np.where(segments == 1, np.arange(L), np.arange(L) - 2 * L // 3)
    return {
      name: x.astype(np.int32)
      for name, x in {
        "tokens": stream[:-1],
        "targets": stream[:-1] if fault == "unshifted_targets" else stream[1:],
        "segments": segments,
        "positions": positions,
      }.items()
    }


@dataclasses.dataclass(frozen=True)
class Loss:
  """Nats per token."""

  fault: str = ""

  def __call__(self, model, batch):
    x_BLD = model.encode(batch["tokens"], batch["segments"], batch["positions"])
    logits_BLV = unembed(x_BLD, model.table())
    log_p_BLV = jax.nn.log_softmax(logits_BLV)
    loss_BL = -jnp.take_along_axis(log_p_BLV, batch["targets"][..., None], -1)[..., 0]
    weights_BL = (batch["segments"] > 0).astype(jnp.float32)
    mean = Mean.of(loss_BL, weights_BL)
    one = jnp.ones(())
    match self.fault:
      case "summed_loss":
        mean = Mean(mean.total, one)
      case "mean_of_means":
        mean = Mean(mean.mean(), one)
      case "counts_padding":
        mean = Mean.of(loss_BL)
      case "order_of_rows":
        mean = Mean.of(loss_BL, weights_BL * (1 + jnp.arange(len(loss_BL)))[:, None])
      case "narrow_sum":
        mean = Mean(jnp.sum((loss_BL * weights_BL).astype(x_BLD.dtype)), mean.weight)
      case "random_loss":
        shape = jax.ShapeDtypeStruct((), np.float32)
        noise = jax.pure_callback(lambda: np.float32(np.random.rand()), shape)
        mean = dataclasses.replace(mean, total=mean.total * (1 + noise))
      case "random_when_traced":
        mean = dataclasses.replace(mean, total=mean.total * (1 + np.random.rand()))
    return {"loss": mean}


class Unscaled(nn.Module):
  """Dropout that forgets to make up for what it drops."""

  rate: float

  @nn.compact
  def __call__(self, x):
    if not self.has_rng("dropout"):
      return x
    return jnp.where(jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, x.shape), x, 0)


class UnscaledDropout(Unscaled):
  pass


class Layer(nn.Module):
  dropout: float
  window: int | None
  fault: str

  @nn.compact
  def __call__(self, x_BLD, mask):
    drop = Dropout(self.dropout)
    if self.fault == "unscaled_dropout":
      drop = UnscaledDropout(self.dropout)
    x_BLD += drop(self.attention(LayerNorm(name="attention_norm")(x_BLD), mask))
    return x_BLD + drop(self.mlp(LayerNorm(name="mlp_norm")(x_BLD)))

  def attention(self, x_BLD, mask):
    D, H = x_BLD.shape[-1], 2
    sizes = {"H": H, "K": D // H}
    q_BLHK = project("BLD,DHK->BLHK", **sizes, name="query")(x_BLD)
    k_BMHK = project("BMD,DHK->BMHK", **sizes, name="key")(x_BLD)
    v_BMHK = project("BMD,DHK->BMHK", **sizes, name="value")(x_BLD)
    if mask.offset is not None:
      k_BMHK, v_BMHK = (self.append(n, x, mask) for n, x in (("k", k_BMHK), ("v", v_BMHK)))
    scores_BHLM = jnp.einsum("BLHK,BMHK->BHLM", q_BLHK, k_BMHK).astype(jnp.float32)
    seen_B1LM = self.visible(mask, *scores_BHLM.shape[2:])
    weights_BHLM = jax.nn.softmax(jnp.where(seen_B1LM, scores_BHLM, -1e30)).astype(x_BLD.dtype)
    y_BLHK = jnp.einsum("BHLM,BMHK->BLHK", weights_BHLM, v_BMHK)
    return project("BLHK,HKD->BLD", D=D, name="out")(y_BLHK)

  def append(self, name, new, mask):
    M = mask.memory_segments_BM.shape[1]
    shape = (new.shape[0], M, *new.shape[2:])
    cache = self.variable("cache", name, jnp.zeros, shape, new.dtype)
    cache.value = jax.lax.dynamic_update_slice(cache.value, new, (0, mask.offset, 0, 0))
    return cache.value

  def visible(self, mask, L, M):
    query_L1 = jnp.arange(L)[:, None] + (0 if mask.offset is None else mask.offset)
    slot_1M = jnp.arange(M)[None]
    seen_LM = slot_1M <= query_L1 + (self.fault == "off_by_one_mask")
    if self.window is not None:
      seen_LM &= query_L1 - slot_1M < self.window + (self.fault == "wide_window")
    seen_BLM = seen_LM[None]
    if self.fault != "segments_ignored":
      memory_BM = mask.memory_segments_BM if mask.offset is not None else mask.segments_BL
      seen_BLM &= mask.segments_BL[:, :, None] == memory_BM[:, None]
    return seen_BLM[:, None]

  def mlp(self, x_BLD):
    D, F = x_BLD.shape[-1], 64
    if self.fault == "no_letters":
      up = self.param("up", nn.initializers.normal(0.02), (D, F))
      hidden_BLF = x_BLD @ up.astype(x_BLD.dtype)
    else:
      hidden_BLF = project("BLD,DF->BLF", F=F, name="up")(x_BLD)
    down = project("BLF,FD->BLD", D=D, name="down")
    layout = sharding.active()
    if self.fault != "missing_psum" or layout is None or layout.size("tensor") == 1:
      return down(jax.nn.gelu(hidden_BLF))
    kernel_FD, _ = down.weights(hidden_BLF)
    return jax.shard_map(
      lambda h, w: jax.nn.gelu(h) @ w,  # each device has a part of the sum over F
      mesh=layout.mesh,
      in_specs=(P(None, None, "tensor"), P("tensor")),
      out_specs=P(),
      check_vma=False,
    )(hidden_BLF, kernel_FD)


class History(nn.Module):
  """What was read so far, kept under the names that `research.nn.History` has."""

  length: int
  fault: str

  @nn.compact
  def __call__(self, shape, segments_BL, positions_BL):
    B, L = shape
    if segments_BL is None:
      segments_BL = jnp.ones((B, L), jnp.int32)
    if self.is_initializing() or not self.is_mutable_collection("cache"):
      mask = Mask(causal=True, segments_BL=segments_BL)
      if positions_BL is None:
        positions_BL = positions_in_segments(mask, L, L)
      return mask, positions_BL
    index = self.variable("cache", "index", jnp.zeros, (), jnp.int32)
    known = self.variable("cache", "segments", jnp.zeros, (B, self.length), jnp.int32)
    mask = Mask(causal=True, offset=index.value, segments_BL=segments_BL)
    known.value = jax.lax.dynamic_update_slice(known.value, segments_BL, (0, index.value))
    mask = dataclasses.replace(mask, memory_segments_BM=known.value)
    if positions_BL is None and self.fault == "offset_forgotten":
      positions_BL = jnp.broadcast_to(jnp.arange(L), (B, L))
    if positions_BL is None:
      positions_BL = positions_in_segments(mask, L, known.value.shape[1])
    if not (self.fault == "stale_index" and L == 1):
      index.value += L
    return mask, positions_BL


class Reader(nn.Module):
  """A decoder that keeps its own history."""

  vocab_size: int
  max_length: int
  width: int
  depth: int
  dropout: float = 0.0
  windows: tuple[int | None, ...] = (4,)
  dtype: str = "float32"
  layers: str = "loop"
  remat: str = "none"
  fault: str = ""

  def setup(self):
    self.history = History(self.max_length, self.fault)
    self.embed = Embed(self.vocab_size, self.width)
    self.places = LearnedPositions(self.max_length, self.width)
    rate = 0.0 if self.fault == "dropout_off" else self.dropout
    blocks = tuple(Layer(rate, w, self.fault, parent=None) for w in self.windows)
    self.stack = Stack(blocks, self.depth, self.layers, self.remat)
    self.norm = LayerNorm()
    self.first_drop = Dropout(0.1 if self.fault == "rate_is_no_field" else rate)

  def encode(self, tokens_BL, segments_BL=None, positions_BL=None):
    mask, positions_BL = self.history(tokens_BL.shape, segments_BL, positions_BL)
    if self.fault == "positions_of_row":
      positions_BL = jnp.broadcast_to(jnp.arange(tokens_BL.shape[1]), tokens_BL.shape)
    x_BLD = (self.embed(tokens_BL) + self.places(positions_BL)).astype(self.dtype)
    if self.fault == "other_randomness" and self.remat == "full":
      self.first_drop(x_BLD)  # takes a key, so that the next call has another one
    x_BLD = self.first_drop(x_BLD)
    if self.fault == "dropout_in_evaluation" and self.dropout:
      x_BLD = jnp.where(jnp.arange(self.width) % 2 == 0, x_BLD, 0)
    x_BLD = self.stack(x_BLD, mask)
    x_BLD = self.norm(x_BLD)
    return x_BLD * 1.001 if self.fault == "scan_differs" and self.layers == "scan" else x_BLD

  def table(self):
    return self.embed.table
