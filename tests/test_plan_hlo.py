"""Reading compiled programs: loops, products, what is sent and when, told from their text."""

import gzip
import itertools
from pathlib import Path

import pytest

from research.plan import buffers, collectives, count, hlo, network, schedule, topology
from research.plan.network import Network

GOLDEN = Path(__file__).parent / "golden" / "plan"
TEMPORARY = 29_638_656  # bytes, by the compiler's own count of what is in layers.hlo.gz


@pytest.fixture(scope="module")
def loops():
  """Written by hand: a loop in a loop, which steps by two, and sending in three forms."""
  return hlo.parse((GOLDEN / "loops.hlo").read_text())


@pytest.fixture(scope="module")
def layers():
  """A decoder of two layers as XLA compiled it for v5e:4x4, with fsdp=16."""
  return hlo.parse(gzip.decompress((GOLDEN / "layers.hlo.gz").read_bytes()).decode())


def net(mesh=None, text="v5e:4x4"):
  machine = topology.parse(text)
  places = tuple(itertools.product(*map(range, machine.shape))) * machine.slices
  slices = tuple(i // (len(places) // machine.slices) for i in range(len(places)))
  return Network(machine, mesh or {"fsdp": machine.devices}, places, slices)


def whiles(module):
  return {
    made.name: (computation, made)
    for computation in module.computations.values()
    for made in computation.instructions
    if made.opcode == "while"
  }


def test_a_loop_that_steps_by_two_runs_half_as_often_as_its_limit(loops):
  computation, made = whiles(loops)["while.4"]
  assert count.trips(loops, computation, made) == 4


def test_a_limit_that_is_carried_along_is_found_where_the_loop_starts(loops):
  computation, made = whiles(loops)["while.8"]
  assert count.trips(loops, computation, made) == 3


def test_a_loop_that_cannot_be_understood_counts_once(loops):
  text = (GOLDEN / "loops.hlo").read_text()
  unknown = hlo.parse(text.replace("%three = s32[] constant(3)", "%three = s32[] partition-id()"))
  computation, made = whiles(unknown)["while.8"]
  assert count.trips(unknown, computation, made) == 1


def test_a_count_that_the_compiler_gives_is_believed():
  line = 'while(%x), condition=%c, body=%b, backend_config={"known_trip_count":{"n":"32"}}'
  made = hlo._instruction(f"  %w = (s32[]) {line}")
  assert count.trips(None, None, made) == 32


def test_an_attribute_over_several_lines_belongs_to_its_instruction(loops):
  kernel = loops.entry.named["kernel.8"]
  assert kernel.target == "tpu_custom_call" and "blocks/attention/fwd" in kernel.scope
  assert loops.entry.root.name == "last.8"


def test_loops_are_multiplied_out(loops):
  flops = sum(
    times * flops
    for computation, made, times in collectives.scheduled(loops, loops.entry)
    for flops, _ in count.products_of(loops, computation, made)
  )
  assert flops == 3 * 4 * 2 * 8 * 8 * 128 + 2 * 64 * 64 * 128


@pytest.mark.parametrize(
  "line, flops",
  [
    ("dim_labels=bf_oi->bf", 2 * 4 * 8 * 16),
    # A product of eight rows as a window over padding: each output meets one input.
    ("window={size=8 pad=7_7 rhs_reversal=1}, dim_labels=bf0_io0->bf0", 2 * 4 * 8 * 16 * 8),
    ("window={size=3 stride=2 pad=1_1}, dim_labels=bf0_io0->bf0", 2 * 4 * 8 * 16 * 11),
    ("window={size=4 lhs_dilate=4 pad=0_0}, dim_labels=bf0_io0->bf0", 2 * 4 * 8 * 16 * 2),
  ],
)
def test_a_convolution_counts_only_where_there_is_an_input(line, flops):
  sizes = {"8": (1, 8, 8), "3": (8, 3, 4), "4": (2, 4, 2)}
  window = line[line.find("size=") + 5] if "size=" in line else None
  if window is None:
    shapes = "[4,8]", "[16,8]", "[4,16]"
  else:
    inputs, taps, outputs = sizes[window]
    shapes = f"[4,8,{inputs}]", f"[8,16,{taps}]", f"[4,16,{outputs}]"
  text = f"""HloModule one, is_scheduled=true

ENTRY %main (a: f32{shapes[0]}, b: f32{shapes[1]}) -> f32{shapes[2]} {{
  %a = f32{shapes[0]} parameter(0)
  %b = f32{shapes[1]} parameter(1)
  ROOT %c = f32{shapes[2]} convolution(%a, %b), {line}
}}
"""
  module = hlo.parse(text)
  assert sum(f for f, _ in count.products(module, module.entry)) == flops


def test_an_asynchronous_collective_counts_once(loops):
  entries = {entry.kind: entry for entry in collectives.ledger(loops, net())}
  assert entries["all-gather"].count == 1 and entries["all-gather"].asynchronous
  assert entries["all-gather"].wire == 15 * 4 * 128 * 2
  assert entries["collective-permute"].count == 12 and entries["collective-permute"].asynchronous
  assert entries["collective-permute"].wire == 12 * 8 * 128 * 2
  assert entries["all-reduce"].wire == 2 * 64 * 4 * 3 / 4
  assert not entries["all-reduce"].asynchronous


def test_the_ledger_names_the_line_that_caused_it_not_the_plumbing(loops):
  entries = {entry.kind: entry for entry in collectives.ledger(loops, net())}
  assert entries["all-gather"].line == "research/nn/layers.py:57"
  assert entries["all-reduce"].line == "research/nn/layers.py:57"
  assert entries["collective-permute"].scope == "backward GPT.encode/blocks/mlp"


def test_the_ledger_names_the_mesh_axis(loops):
  entries = {e.kind: e for e in collectives.ledger(loops, net({"data": 4, "tensor": 4}))}
  assert entries["all-reduce"].axes == ("data",)
  assert entries["collective-permute"].axes == ("tensor",)
  assert entries["all-gather"].axes == ("data", "tensor")


@pytest.mark.parametrize(
  "text, group",
  [
    ("replica_groups={{0,2},{1,3}}", (0, 2)),
    ("replica_groups=[2,4]<=[8]", (0, 1, 2, 3)),
    ("replica_groups=[4,2]<=[2,4]T(1,0)", (0, 4)),
    ("replica_groups=mesh['a'=2,'b'=4] {'a'}", (0, 4)),
    ("replica_groups=mesh['a'=16] {'a':(1)4}", (0, 4, 8, 12)),
    ("source_target_pairs={{3,1},{1,3}}", (3, 1)),
    ('_xla_megascale_target="{1,2}x{0:15}"', (0, 16)),
  ],
)
def test_groups_are_read_in_every_form(text, group):
  assert network.group(text) == group


def test_a_ring_is_twice_as_fast_as_a_line():
  whole, part = net(text="v5e:16x16"), net(text="v5e:4x4")
  link = whole.topology.chip.link
  assert whole.bandwidth("all-gather", tuple(range(16))) == 2 * link
  assert part.bandwidth("all-gather", tuple(range(4))) == link
  assert whole.bandwidth("all-gather", tuple(range(256))) == 4 * link


def test_between_slices_the_network_is_what_is_slow():
  two = net(text="2xv5e:4x4")
  assert two.lanes("all-reduce", (0, 16)) == (("network", 0),)
  assert two.bandwidth("all-reduce", (0, 16)) == two.topology.chip.network
  assert two.lanes("all-reduce", (0, 1)) != (("network", 0),)


def test_what_is_computed_meanwhile_hides_what_is_sent(loops):
  fast, slow = schedule.interval(loops, net())
  gather = net().seconds("all-gather", 15 * 4 * 128 * 2, tuple(range(16)))
  alone = sum(entry.seconds for entry in collectives.ledger(loops, net()))
  assert fast.exposed < alone
  assert slow.exposed < alone - min(gather, 1500 / 1.5e9) + 1e-12
  assert slow.products >= 1500 / 1.5e9 and fast.step <= slow.step


def test_a_real_program_is_counted_to_the_last_flop(layers):
  """Two layers, 16 devices, 2 rows of 1,024 each; products forward, once more, and backward."""
  rows, width, hidden, words = 2 * 1024, 512, 1408, 32_000
  qkv, out, mlp = 3 * width * width, width * width, 3 * width * hidden
  forward = 2 * rows * (qkv + out + mlp)
  again = 2 * rows * (out + 2 * width * hidden)  # queries, keys and values are saved
  layer = 3 * forward + again
  loss = 4 * 2 * rows * width * words  # logits once more in the backward pass
  found = sum(
    times * flops
    for computation, made, times in collectives.scheduled(layers, layers.entry)
    for flops, _ in count.products_of(layers, computation, made)
  )
  assert found == 2 * layer + loss


def test_a_real_program_gathers_each_weight_twice(layers):
  totals = collectives.totals(collectives.ledger(layers, net()))
  width, hidden, words = 512, 1408, 32_000
  weights = 2 * (4 * width * width + 3 * width * hidden)  # of both layers
  tables = 2 * words * width
  assert totals["all-gather"]["wire"] == pytest.approx(
    2 * (2 * weights + tables) * 15 / 16, rel=0.01
  )


def test_the_buffers_of_a_real_program_add_up_to_what_the_compiler_reserves(layers):
  peak, _ = buffers._peak(layers, layers.entry)
  assert peak == pytest.approx(TEMPORARY, rel=0.15)
  found = buffers.largest(layers)
  assert len(found) == 10 and found[0].bytes >= found[-1].bytes
  assert any(buffer.line.startswith("research/") for buffer in found)
