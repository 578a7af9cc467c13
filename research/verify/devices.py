"""Spread over eight devices, an experiment computes what it does on one, and lies by the rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax

from research import update
from research.errors import UserError
from research.mesh import PRESETS, Sharding
from research.stacking import names
from research.verify.rows import BROKEN, DOES_NOT_APPLY, EQUAL, DoesNotApply, Row, within
from research.verify.subject import Subject, build, fill, observe

DEVICES = 8
LARGE = 0.01  # of all parameters: an array that large should not lie whole on every device


def devices(subject: Subject) -> Iterator[Row]:
  """Loss, gradient and update on eight devices are those of one, on every mesh."""
  _enough()
  for name in subject.meshes:
    try:
      program = build(subject.plain, _on(subject, Sharding.parse(name)), DEVICES)
    except UserError as error:
      yield Row(name, verdict=DOES_NOT_APPLY, note=str(error))
      continue
    result = observe(program, subject.flat, subject.rows)
    far, note = result.apart(subject.base)
    yield within(name, far, EQUAL, f"on eight devices and one: {note}")


def placement(subject: Subject) -> Iterator[Row]:
  """Under fsdp no device holds a large parameter whole, and an update leaves all where it was."""
  _enough()
  try:
    program = build(subject.plain, _on(subject, PRESETS["fsdp"]), DEVICES)
  except UserError as error:
    raise DoesNotApply(str(error)) from error
  params = program.abstract.params
  total = sum(x.size for x in jax.tree.leaves(params))
  share, name = max(
    (x.size / total if x.sharding.is_fully_replicated else 0.0, name)
    for name, x in zip(names(params), jax.tree.leaves(params))
  )
  note = (
    f"params/{name} lies whole on every device: its dimensions carry no letters that a rule "
    "splits; make it with nn.project or nn.weight"
  )
  yield within("whole on all devices", share, LARGE, note)
  yield _stays(subject, program)


def _stays(subject: Subject, program: update.Program) -> Row:
  state, _ = program.step(fill(program.abstract, subject.flat), program.place(dict(subject.rows)))
  leaves = zip(names(state), jax.tree.leaves(state), jax.tree.leaves(program.abstract))
  for name, x, wanted in leaves:
    if not x.sharding.is_equivalent_to(wanted.sharding, x.ndim):
      note = f"{name} was {wanted.sharding.spec}, and is {x.sharding} after the update"
      return Row("after an update", verdict=BROKEN, note=note)
  return Row("after an update")


def _on(subject: Subject, preset: Sharding) -> Sharding:
  """A preset's mesh under the experiment's own rules."""
  return dataclasses.replace(preset, rules=subject.plain.sharding.rules)


def _enough() -> None:
  if jax.device_count() < DEVICES:
    raise DoesNotApply(
      f"it takes {DEVICES} devices, and there are {jax.device_count()}; without JAX_PLATFORMS "
      "they are made of the CPU"
    )
