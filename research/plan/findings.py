"""What a plan means, in words: where memory and time go, and what could be done about it."""

from __future__ import annotations

from collections.abc import Iterator

from research.plan.collectives import Entry
from research.plan.figures import gb, gib, short
from research.plan.result import Plan

NOTABLE = 0.01  # of a step, below which nothing is said
SLOW = 0.7  # of the peak, below which a product is worth a look
TIGHT = 0.9  # of the memory


def findings(plan: Plan) -> list[str]:
  """Sentences, the most telling first."""
  said = [*_memory(plan), *_reading(plan), *_network(plan), *_products(plan), *_work(plan)]
  return [sentence[0].upper() + sentence[1:] for sentence in said]


def _memory(plan: Plan) -> Iterator[str]:
  available = plan.topology.chip.memory
  share = plan.needed / available
  if plan.compiled and plan.compiled.facts["attention"] == "plain":
    yield (
      "compiled with plain attention, as cuDNN is not installed here: its kernel stores no scores, "
      "and needs less memory and time."
    )
  if TIGHT < share <= 1:
    yield (
      f"{share:.0%} of the memory is used: a longer sequence or another compiler version may not "
      "fit."
    )
  elif share < 0.5 and plan.fits and len(plan.traced.kept) > 1:
    roomier = _roomier(plan)
    if roomier:
      yield roomier
  spread = {axis: size for axis, size in plan.traced.mesh.items() if size > 1}
  state = sum(plan.traced.state.values())
  replicas = plan.traced.state["parameters"] * plan.topology.devices / (4 * plan.traced.parameters)
  if replicas > 2 and state > 0.2 * available:
    yield (
      f"the state lies {replicas:.0f} times in the machine, {gib(state)} GiB on each "
      f"device: a larger fsdp axis than in {spread} would split it."
    )


def _roomier(plan: Plan) -> str | None:
  """A policy that keeps more, computes less, and still fits."""
  traced = plan.traced
  own = traced.computed[traced.policy]
  fitting = [
    policy
    for policy in traced.kept
    if traced.memory(policy) < TIGHT * plan.topology.chip.memory
    and traced.computed[policy] < 0.98 * own
  ]
  if not fitting:
    return None
  best = min(fitting, key=lambda policy: traced.computed[policy])
  saved = 1 - traced.computed[best] / own
  return (
    f"less than half of the memory is used: model.remat={best} would compute {saved:.0%} less and "
    f"need about {gib(traced.memory(best))} GiB."
  )


def _reading(plan: Plan) -> Iterator[str]:
  if plan.compiled and "unreadable" in plan.compiled.facts:
    yield (
      "only the memory is known: this JAX cannot read what this compiler made. The compiler that "
      f"belongs to JAX {plan.compiled.facts['jax']} may be named with TPU_LIBRARY_PATH."
    )


def _network(plan: Plan) -> Iterator[str]:
  if not plan.schedules:
    return
  slow = plan.schedules[1]
  if slow.exposed > NOTABLE * slow.step:
    yield (
      f"{short(slow.exposed)} s of {short(slow.step)} s wait for the network "
      f"({slow.exposed / slow.step:.0%}), most of it at "
      + ", ".join(f"{line} ({short(s)} s)" for line, s in list(slow.waits.items())[:3])
      + "."
    )
  everyone = plan.topology.devices
  sums = [e for e in plan.entries if e.kind == "all-reduce" and "backward" in e.scope]
  whole = [e for e in sums if _size(plan, e) == everyone and not e.asynchronous]
  seconds = sum(entry.seconds for entry in whole)
  if seconds > NOTABLE * slow.step:
    yield (
      f"gradients are summed over all {everyone} devices and not beside computation: "
      f"{gb(sum(e.wire for e in whole))} GB and {short(seconds)} s. Where fsdp is one axis of "
      "the torus, with data over the other, the sums are scattered and half as large."
    )
  for entry in sums:
    if entry.count in (4, 8, 16) and entry.seconds > NOTABLE * slow.step:
      yield (
        f"a gradient is summed {entry.count} times a step at {entry.line}, {gb(entry.wire)} GB: a "
        "loop reduces it in every turn. Summed after the loop it would be "
        f"{gb(entry.wire / entry.count)} GB."
      )
  gathers = [e for e in plan.entries if e.kind == "all-gather" and not e.asynchronous]
  seconds = sum(entry.seconds for entry in gathers)
  if seconds > NOTABLE * slow.step:
    yield (
      f"{gb(sum(e.wire for e in gathers))} GB of weights are gathered while nothing is "
      f"computed, {short(seconds)} s."
    )


def _products(plan: Plan) -> Iterator[str]:
  if not plan.schedules or not plan.topology.chip.clock:
    return
  slow = plan.schedules[1]
  for line, scope, seconds, share in slow.slow[:3]:
    if share < SLOW and seconds > 2 * NOTABLE * slow.step:
      yield (
        f"products at {line} ({scope}) are expected to reach {share:.0%} of the peak and take "
        f"{short(seconds)} s."
      )
  if slow.other > 0.15 * slow.step:
    yield f"{slow.other / slow.step:.0%} of the step is neither products nor waiting."


def _work(plan: Plan) -> Iterator[str]:
  if not plan.schedules:
    return
  share = plan.schedules[1].flops / plan.traced.causal_flops
  if share > 1.15:
    yield (
      f"the program computes {share:.2f} times the model's FLOPs: the rest is made again in the "
      "backward pass, or masked."
    )


def _size(plan: Plan, entry: Entry) -> int:
  size = 1
  for axis in entry.axes:
    size *= plan.compiled.network.mesh[axis]
  return size
