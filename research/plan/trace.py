"""What an experiment needs of each device, as values: see `tracing` for how it is told."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Buffer:
  """Something that takes memory: bytes on one device, what it is, where it is made, its shape."""

  bytes: float
  what: str
  line: str = ""
  dtype: str = "f32"
  sizes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Trace:
  """A step of an experiment on a mesh; bytes and FLOPs are of one device, unless said.

  Attributes:
    mesh: sizes by axis.
    parameters: in all.
    tokens: of a step, in all; examples where a batch has none.
    state: bytes by kind: parameters, optimizer, average.
    gradients: bytes.
    kept: by remat policy, what the forward pass keeps for the backward pass.
    passing: by remat policy, bytes of one layer's backward pass beside that.
    policy: the experiment's own, or "none" where its model knows no policies.
    flops: of the model, by the usual count: masked attention in full, recomputation not at all.
    attention: the part of them between queries, keys and values; a causal mask leaves half.
    computed: FLOPs that the compiled program will do, by policy; masked attention in full.
    wire: bytes sent, by kind of collective.
    largest: arrays of the state.
  """

  mesh: dict[str, int]
  parameters: int
  tokens: int
  state: dict[str, float]
  gradients: float
  kept: dict[str, list[Buffer]]
  passing: dict[str, float]
  policy: str
  flops: float
  attention: float
  computed: dict[str, float]
  wire: dict[str, float]
  largest: list[Buffer]

  @property
  def causal_flops(self) -> float:
    """With half of attention: what a causal model has to compute."""
    return self.flops - self.attention / 2

  def memory(self, policy: str) -> float:
    """Bytes that a step is expected to need under a remat policy."""
    kept = sum(buffer.bytes for buffer in self.kept[policy])
    return sum(self.state.values()) + self.gradients + kept + self.passing[policy]

  def buffers(self) -> list[Buffer]:
    """What takes most, of the experiment's own policy."""
    everything = [*self.largest, *self.kept[self.policy]]
    return sorted(everything, key=lambda buffer: -buffer.bytes)
