"""The machines that a plan can be for: chips with their public figures, and how they are joined.

Sources: Google Cloud's pages of each TPU version (peak, HBM, list price on demand in the United
States); Austin et al., "How to Scale Your Model" (2025) for one-way link bandwidths; NVIDIA's data
sheets. `memory` is what the TPU compiler itself calls available, or 95 % of what a GPU's data sheet
says. Prices change and regions differ: `research plan --price` takes yours.
"""

from __future__ import annotations

import dataclasses
import math
import re

from research.errors import UserError, nearest

GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """One device as the compiler counts them.

  Attributes:
    platform: "tpu" or "cuda".
    memory: bytes that a program may use.
    peak: FLOP/s of matrix products by the dtype of their operands.
    bandwidth: of the memory, bytes/s.
    link: bytes/s one way over one link of the torus, or of one GPU into its host's switch.
    network: bytes/s one way of one device out of its slice or host.
    price: dollars an hour.
    clock: Hz, in which the TPU compiler counts cycles; 0 for a GPU.
    dimensions: of the torus; 0 where hosts are joined by switches.
    ring: a side of the slice closes to a ring where it is a multiple of this.
    compiler_name, options: what the compiler calls it.
    core_count, capability, l2: of a GPU, for its target description.
  """

  platform: str
  memory: float
  peak: dict[str, float]
  bandwidth: float
  link: float
  network: float
  price: float
  clock: float = 0.0
  dimensions: int = 0
  ring: int = 0
  compiler_name: str = ""
  options: tuple[tuple[str, str], ...] = ()
  core_count: int = 0
  capability: tuple[int, int] = (0, 0)
  l2: int = 0

  def flops(self, dtype: str) -> float:
    """Peak FLOP/s for operands of `dtype`."""
    return self.peak.get(dtype, self.peak["float32"])


def _tpu(peak: float, **figures) -> Chip:
  # At JAX's default precision a TPU rounds float32 operands to bfloat16, so both run alike.
  return Chip(platform="tpu", peak={"bfloat16": peak, "float32": peak}, **figures)


def _gpu(half: float, single: float, memory: float, **figures) -> Chip:
  peak = {"bfloat16": half, "float16": half, "float32": single}
  return Chip(platform="cuda", peak=peak, memory=0.95 * memory * 1e9, **figures)


_MEGACORE = (("chip_config_name", "megacore"),)  # two cores that share their memory, as one device

CHIPS: dict[str, Chip] = {
  "v4": _tpu(
    275e12, memory=30.75 * GIB, bandwidth=1.228e12, link=4.5e10, network=6.25e9, price=3.22,
    clock=1.05e9, dimensions=3, ring=4, compiler_name="v4", options=_MEGACORE,
  ),
  "v5e": _tpu(
    197e12, memory=15.75 * GIB, bandwidth=8.19e11, link=4.5e10, network=3.1e9, price=1.20,
    clock=1.5e9, dimensions=2, ring=16, compiler_name="v5e",
  ),
  "v5p": _tpu(
    459e12, memory=95.73 * GIB, bandwidth=2.765e12, link=9.0e10, network=6.25e9, price=4.20,
    clock=1.75e9, dimensions=3, ring=4, compiler_name="v5", options=_MEGACORE,
  ),
  "v6e": _tpu(
    918e12, memory=31.24 * GIB, bandwidth=1.64e12, link=9.0e10, network=1.25e10, price=2.70,
    clock=1.75e9, dimensions=2, ring=16, compiler_name="v6e",
  ),
  "a100": _gpu(
    312e12, 156e12, 80, bandwidth=2.039e12, link=3.0e11, network=2.5e10, price=5.12,
    core_count=108, capability=(8, 0), l2=40 << 20,
  ),
  "h100": _gpu(
    989e12, 494e12, 80, bandwidth=3.35e12, link=4.5e11, network=5.0e10, price=11.06,
    core_count=132, capability=(9, 0), l2=50 << 20,
  ),
  "h200": _gpu(
    989e12, 494e12, 141, bandwidth=4.8e12, link=4.5e11, network=5.0e10, price=10.60,
    core_count=132, capability=(9, 0), l2=50 << 20,
  ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Topology:
  """So many chips, joined so.

  Attributes:
    kind: a key of `CHIPS`.
    shape: sides of one slice of TPUs; (hosts, GPUs each).
    slices: of TPUs, which are joined by the data centre's network.
  """

  kind: str
  shape: tuple[int, ...]
  slices: int = 1

  @property
  def chip(self) -> Chip:
    return CHIPS[self.kind]

  @property
  def devices(self) -> int:
    return self.slices * math.prod(self.shape)

  def __str__(self) -> str:
    slices = f"{self.slices}x" if self.slices > 1 else ""
    return f"{slices}{self.kind}:{'x'.join(map(str, self.shape))}"


def parse(text: str) -> Topology:
  """`v5e:16x16`, `2xv5p:4x4x8`, `h100:8x8` (hosts x GPUs).

  Raises:
    UserError: a kind that is not known, or a shape that it does not come in.
  """
  found = re.fullmatch(r"(?:(\d+)x)?([a-z]\w*):(\d+(?:x\d+)*)", text)
  kind = found[2] if found else text.partition(":")[0]
  if kind not in CHIPS:
    raise UserError(
      f"topology {text!r}: {kind!r} is not known.{nearest(kind, CHIPS)} Write one of "
      f"{', '.join(CHIPS)} with its shape, as in v5e:16x16, v5p:4x4x8, 2xv5e:16x16 (two slices) "
      "or h100:8x8 (hosts x GPUs)."
    )
  chip = CHIPS[kind]
  sides = chip.dimensions or 2
  shape = tuple(int(side) for side in found[3].split("x")) if found else ()
  slices = int(found[1] or 1) if found else 1
  said = "hosts x GPUs, as in 8x8" if not chip.dimensions else f"{sides} sides"
  if len(shape) != sides or min(shape) < 1 or slices < 1:
    example = "x".join(["4"] * sides) if chip.dimensions else "8x8"
    raise UserError(f"topology {text!r}: {kind} comes as {said}, for example {kind}:{example}.")
  if slices > 1 and not chip.dimensions:
    raise UserError(f"topology {text!r}: GPUs come in hosts, not slices; write {kind}:HOSTSxGPUS.")
  return Topology(kind, shape, slices)
