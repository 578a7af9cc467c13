"""The machines that can be had, and how many of them a topology such as `v5p:4x4x8` is.

Sources: Google Cloud's pages on TPU versions, on TPUs in GKE and on GPU machine types; Amazon's
page on P4 and P5 instances.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re

from research.errors import UserError, nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
  """One kind of host.

  Attributes:
    platform: "tpu", "gpu" or "cpu".
    about: what it is, in the vendor's words.
    chips: accelerators in a whole host; of a CPU host, 1.
    sides: the shapes that a slice of TPUs comes in; empty for a torus of three dimensions, whose
      sides follow a rule, and for what is no TPU.
    largest: chips in the largest slice of three dimensions.
    parts: how many GPUs a smaller machine of the same type has; it then stands alone.
    label: the accelerator's name in GKE's node selector.
    type: the machine type; `{chips}` is how many it has.
    cores: what a TPU's accelerator type counts for each chip.
    accelerator: prefix of a TPU's accelerator type.
    runtime: the software version of a TPU VM.
    sky: the accelerator's name in SkyPilot.
    fabric: what joins the chips, and what joins the hosts.
  """

  platform: str
  about: str
  chips: int
  sides: tuple[str, ...] = ()
  largest: int = 0
  parts: tuple[int, ...] = ()
  label: str = ""
  type: str = ""
  cores: int = 0
  accelerator: str = ""
  runtime: str = ""
  sky: str = ""
  fabric: str = ""


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_SMALL = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")  # below a cube of 64 chips; above, multiples of 4
_TORUS = "ICI inside a slice, the data centre's network between slices"
_NVLINK = "NVLink inside a host, RDMA or TCPX between hosts"

MACHINES: dict[str, Machine] = {
  "v4": Machine(
    platform="tpu", about="TPU v4", chips=4, largest=4096, label="tpu-v4-podslice",
    type="ct4p-hightpu-4t", cores=2, accelerator="v4", runtime="tpu-ubuntu2204-base",
    fabric=_TORUS,
  ),
  "v5e": Machine(
    platform="tpu", about="TPU v5e", chips=4, sides=_FLAT, label="tpu-v5-lite-podslice",
    type="ct5lp-hightpu-{chips}t", cores=1, accelerator="v5litepod",
    runtime="v2-alpha-tpuv5-lite", fabric=_TORUS,
  ),
  "v5p": Machine(
    platform="tpu", about="TPU v5p", chips=4, largest=6144, label="tpu-v5p-slice",
    type="ct5p-hightpu-4t", cores=2, accelerator="v5p", runtime="v2-alpha-tpuv5", fabric=_TORUS,
  ),
  "v6e": Machine(
    platform="tpu", about="TPU v6e (Trillium)", chips=4, sides=_FLAT, label="tpu-v6e-slice",
    type="ct6e-standard-{chips}t", cores=1, accelerator="v6e", runtime="v2-alpha-tpuv6e",
    fabric=_TORUS,
  ),
  "a100-40gb": Machine(
    platform="gpu", about="A2, 8 x A100 40 GB", chips=8, parts=(1, 2, 4),
    label="nvidia-tesla-a100", type="a2-highgpu-{chips}g", sky="A100", fabric=_NVLINK,
  ),
  "a100": Machine(
    platform="gpu", about="A2 Ultra, 8 x A100 80 GB", chips=8, parts=(1, 2, 4),
    label="nvidia-a100-80gb", type="a2-ultragpu-{chips}g", sky="A100-80GB", fabric=_NVLINK,
  ),
  "h100": Machine(
    platform="gpu", about="A3 High, 8 x H100 80 GB", chips=8, parts=(1, 2, 4),
    label="nvidia-h100-80gb", type="a3-highgpu-{chips}g", sky="H100", fabric=_NVLINK,
  ),
  "h100-mega": Machine(
    platform="gpu", about="A3 Mega, 8 x H100 80 GB", chips=8, label="nvidia-h100-mega-80gb",
    type="a3-megagpu-8g", sky="H100-MEGA", fabric=_NVLINK,
  ),
  "h200": Machine(
    platform="gpu", about="A3 Ultra, 8 x H200 141 GB", chips=8, label="nvidia-h200-141gb",
    type="a3-ultragpu-8g", sky="H200", fabric=_NVLINK,
  ),
  "p4d": Machine(
    platform="gpu", about="AWS P4d, 8 x A100 40 GB", chips=8, type="p4d.24xlarge", sky="A100",
    fabric="NVLink inside a host, EFA between hosts",
  ),
  "p5": Machine(
    platform="gpu", about="AWS P5, 8 x H100 80 GB", chips=8, type="p5.48xlarge", sky="H100",
    fabric="NVLink inside a host, EFA between hosts",
  ),
  "cpu": Machine(platform="cpu", about="no accelerator", chips=1, fabric="the network"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Topology:
  """So many machines of a kind, joined so.

  Attributes:
    kind: a key of `MACHINES`.
    sides: of one slice of TPUs, in chips; otherwise (hosts, GPUs or processes each).
    slices: of TPUs, which are joined by the data centre's network.
  """

  kind: str
  sides: tuple[int, ...]
  slices: int = 1

  @property
  def machine(self) -> Machine:
    return MACHINES[self.kind]

  @property
  def chips(self) -> int:
    """In all slices."""
    return self.slices * math.prod(self.sides)

  @property
  def chips_per_host(self) -> int:
    if self.machine.platform == "tpu":
      return min(self.machine.chips, math.prod(self.sides))
    return self.sides[1]

  @property
  def hosts(self) -> int:
    """In one slice."""
    return math.prod(self.sides) // self.chips_per_host

  @property
  def type(self) -> str:
    """The machine type."""
    return self.machine.type.format(chips=self.chips_per_host)

  @property
  def shape(self) -> str:
    return "x".join(map(str, self.sides))

  @property
  def accelerator_type(self) -> str:
    """What Cloud TPU calls one slice, for example `v5p-128`: it counts cores."""
    return f"{self.machine.accelerator}-{math.prod(self.sides) * self.machine.cores}"

  def __str__(self) -> str:
    slices = f"{self.slices}x" if self.slices > 1 else ""
    return f"{slices}{self.kind}:{self.shape}"


def parse(text: str) -> Topology:
  """`v5e:16x16`, `2xv5p:4x4x8` (slices), `h100:8x8` (hosts x GPUs), `cpu:2` (hosts).

  Raises:
    UserError: a kind that is not known, or a shape that it does not come in.
  """
  found = re.fullmatch(r"(?:(\d+)x)?([a-z][\w-]*):(\d+(?:x\d+)*)", text)
  kind = found[2] if found else re.sub(r"^\d+x", "", text.partition(":")[0])
  if kind not in MACHINES:
    raise UserError(f"topology {text!r}: {_from_accelerator_type(text) or _unknown(kind)}")
  if not found:
    raise UserError(f"topology {text!r} is not KIND:SHAPE; {kind} comes as {known_shapes(kind)}.")
  sides = tuple(map(int, found[3].split("x")))
  slices = int(found[1] or 1)
  if kind == "cpu" and len(sides) == 1:
    sides = (*sides, 1)
  if not _exists(kind, sides):
    raise UserError(f"topology {text!r}: {kind} comes as {known_shapes(kind)}.")
  topology = Topology(kind, sides, slices)
  if slices < 1 or (slices > 1 and topology.machine.platform != "tpu"):
    raise UserError(
      f"topology {text!r}: slices are of TPUs, at least 1; "
      f"more hosts of {kind} are {kind}:{slices * sides[0]}x{sides[-1]}."
      if topology.machine.platform != "tpu"
      else f"topology {text!r}: a job has at least 1 slice."
    )
  return topology


def known_shapes(kind: str) -> str:
  """The shapes of a kind, in words."""
  machine = MACHINES[kind]
  if kind == "cpu":
    return "cpu:HOSTS or cpu:HOSTSxPROCESSES"
  if machine.platform == "gpu":
    parts = "".join(f", {kind}:1x{part}" for part in machine.parts)
    return f"{kind}:HOSTSx{machine.chips}{parts}"
  if machine.sides:
    return ", ".join(f"{kind}:{side}" for side in machine.sides)
  return (
    f"{', '.join(f'{kind}:{side}' for side in _SMALL)}, and from {kind}:4x4x4 on sides that are "
    f"multiples of 4, the smallest first, up to {machine.largest} chips"
  )


@functools.cache
def usual_shape(kind: str, chips: int) -> tuple[int, ...]:
  """Of the shapes with so many chips the one nearest to a cube, which an accelerator type means."""
  shapes = [
    (a, b, chips // (a * b))
    for a in range(1, chips + 1)
    if chips % a == 0
    for b in range(1, chips // a + 1)
    if chips % (a * b) == 0
  ]
  return min(filter(functools.partial(_exists, kind), shapes), key=max, default=())


def _exists(kind: str, sides: tuple[int, ...]) -> bool:
  machine, text = MACHINES[kind], "x".join(map(str, sides))
  if min(sides) < 1:
    return False
  if machine.platform != "tpu":
    whole = kind == "cpu" or sides[-1] == machine.chips
    return len(sides) == 2 and (whole or (sides[0] == 1 and sides[1] in machine.parts))
  if machine.sides:
    return text in machine.sides
  cube = all(side % 4 == 0 for side in sides) and tuple(sorted(sides)) == sides
  return text in _SMALL or (len(sides) == 3 and cube and math.prod(sides) <= machine.largest)


def _from_accelerator_type(text: str) -> str:
  """The way out for one who writes `v5p-128`."""
  found = re.fullmatch(r"(v\d\w*)-(\d+)", text)
  for kind, machine in MACHINES.items():
    if found and found[1] == machine.accelerator:
      chips = int(found[2]) // machine.cores
      shapes = [s for s in machine.sides if math.prod(map(int, s.split("x"))) == chips]
      shape = shapes[0] if shapes else "x".join(map(str, usual_shape(kind, chips)))
      if shape:
        return f"that is an accelerator type; its topology is {kind}:{shape}."
  return ""


def _unknown(kind: str) -> str:
  return (
    f"no machine is called {kind!r}.{nearest(kind, MACHINES)} "
    f"Known are {', '.join(f'{name} ({m.about})' for name, m in MACHINES.items())}."
  )
