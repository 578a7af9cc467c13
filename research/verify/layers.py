"""However a model is computed: scanned or looped, with any remat, in bfloat16, with dropout."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from research import sharding
from research.experiment import Experiment
from research.nn.stack import LAYERS, REMAT
from research.verify.rows import (
  BROKEN,
  DOES_NOT_APPLY,
  EQUAL,
  HOLDS,
  DoesNotApply,
  Row,
  furthest,
  within,
)
from research.verify.small import found
from research.verify.subject import Result, Subject, changed, dropouts

# bfloat16 keeps 8 bits: 2^-9 of each value is lost, most of it evened out in a mean of many.
LOSS_DRIFT, GRADIENT_DRIFT = 1e-3, 0.05
RATE = 0.5  # of dropout, where half of all values tell the most


def layers(subject: Subject) -> Iterator[Row]:
  """Scanned layers compute what looped ones do, down to the randomness of their dropout."""
  fields = {
    path: value
    for path, value in found(subject.plain, "model", "layers").items()
    if value in LAYERS
  }
  if not fields:
    raise DoesNotApply("the model has no field 'layers' that is 'loop' or 'scan'")
  loop, scan = (
    subject.step(_dropping(subject, dict.fromkeys(fields, how))) for how in ("loop", "scan")
  )
  far, note = scan.apart(loop)
  yield within("scan and loop", far, EQUAL, f"scanned and looped: {note}")


def remat(subject: Subject) -> Iterator[Row]:
  """What is recomputed in the backward pass is what was there before, dropout included."""
  fields = [p for p, value in found(subject.plain, "model", "remat").items() if value in REMAT]
  if not fields:
    raise DoesNotApply("the model has no field 'remat' that names a policy")
  whole = subject.step(_dropping(subject, dict.fromkeys(fields, "none")))
  for policy in REMAT:
    if policy != "none":
      made = subject.step(_dropping(subject, dict.fromkeys(fields, policy)))
      far, note = made.apart(whole)
      yield within(policy, far, EQUAL, f"remat {policy!r} and 'none': {note}")


def dtype(subject: Subject) -> Iterator[Row]:
  """bfloat16 activations stay near float32 ones, and losses are summed in float32."""
  fields = list(found(subject.plain, "model", "dtype"))
  if not fields:
    raise DoesNotApply("the model has no field 'dtype'")
  narrow = changed(subject.plain, dict.fromkeys(fields, "bfloat16"))
  result = subject.step(narrow)
  wrong = [name for name, x in (result.gradient | result.state).items() if x.dtype == jnp.bfloat16]
  if wrong:
    yield Row("state", verdict=BROKEN, note=f"{wrong[0]} is bfloat16, not float32")
  loss, wanted = result.metrics["loss"], subject.base.metrics["loss"]
  drift = abs(loss - wanted) / max(abs(wanted), 1e-6)
  yield within("loss", drift, LOSS_DRIFT, f"the loss is {loss:.6g}, in float32 {wanted:.6g}")
  yield _gradient_drift(result, subject.base)
  yield _sums(subject, narrow)


def dropout(subject: Subject) -> Iterator[Row]:
  """Dropout acts in training only, at its rate and scale, with new randomness in each step."""
  fields = dropouts(subject.plain)
  if not fields:
    raise DoesNotApply("the model has no field whose name has 'dropout' in it")
  dropping = _dropping(subject, {}, rate=RATE)
  first, again = subject.step(dropping), subject.step(dropping, number=1)
  without = float(subject.base.metrics["loss"])
  moved = [abs(float(x.metrics["loss"]) - without) for x in (first, again)]
  told = f"with {', '.join(fields)} = {RATE} the loss of a step is the same as with 0"
  yield _acts("in training", min(moved), told)
  apart = abs(float(first.metrics["loss"] - again.metrics["loss"]))
  yield _acts("another each step", apart, "two steps drop the same values")
  yield from _rates(subject, dropping)

  def loss(experiment):
    score = nn.apply(experiment.objective, experiment.model)
    with sharding.use(subject.program.layout):
      return jax.jit(score)({"params": subject.params}, subject.rows)["loss"].mean()

  far = abs(float(loss(dropping)) / float(loss(subject.plain)) - 1)
  yield within("not in evaluation", far, EQUAL, "without a key the loss changes")


def _rates(subject: Subject, dropping: Experiment) -> Iterator[Row]:
  """The share of zeros and the scale of the rest, of every layer called Dropout."""
  seen: list[tuple[float, float, float, float]] = []

  def watch(call, arguments, named, context):
    y = call(*arguments, **named)
    is_dropout = "Dropout" in type(context.module).__name__ and context.method_name == "__call__"
    if is_dropout and arguments and isinstance(y, jax.Array):
      x, rate = arguments[0], float(getattr(context.module, "rate", RATE))
      kept = (x != 0) & (y != 0)
      ratio = jnp.where(kept, y / jnp.where(kept, x, 1), 1 / (1 - rate))
      told = (
        jnp.sum((x != 0) & (y == 0)),
        jnp.sum(x != 0),
        jnp.max(jnp.abs(ratio * (1 - rate) - 1)),
      )
      jax.debug.callback(lambda *values: seen.append((rate, *map(float, values))), *told)
    return y

  def run(params, rows, key):
    with sharding.use(subject.program.layout), nn.intercept_methods(watch):
      score = nn.apply(dropping.objective, dropping.model)
      return score({"params": params}, rows, rngs={"dropout": key})["loss"].mean()

  jax.block_until_ready(jax.jit(run)(subject.params, subject.rows, jax.random.key(0)))
  jax.effects_barrier()
  if not seen:
    note = "no layer of a class called Dropout was seen: rate and scale are not checked"
    yield Row("rate and scale", verdict=DOES_NOT_APPLY, note=note)
    return

  def deviation(layer):
    """How many standard errors the share of zeros is from the layer's rate."""
    rate, zeros, count, _ = layer
    return abs(zeros - rate * count) / max((rate * (1 - rate) * count) ** 0.5, 1e-6)

  rate, zeros, count, _ = worst = max(seen, key=deviation)
  note = f"a layer of rate {rate} zeroes {zeros / count:.3f} of {count:.0f} values"
  yield within("rate, in standard errors", deviation(worst), 6.0, note)
  error = max(scale for *_, scale in seen)
  yield within("scale", error, 1e-5, "kept values are not multiplied by 1 / (1 - rate)")


def _acts(part: str, moved: float, note: str) -> Row:
  """Broken where something that should change does not."""
  return Row(part, moved, "> 0", HOLDS if moved > 0 else BROKEN, "" if moved > 0 else note)


def _gradient_drift(result: Result, wanted: Result) -> Row:
  """Of the whole gradient, as the length of the difference over its own."""

  def joined(gradient: dict[str, Any]) -> np.ndarray:
    return np.concatenate([gradient[name].reshape(-1) for name in sorted(gradient)])

  a, b = joined(result.gradient), joined(wanted.gradient)
  far = float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))
  worst = furthest(result.gradient, wanted.gradient)[1]
  return within("gradient", far, GRADIENT_DRIFT, f"{worst} drifts most")


def _sums(subject: Subject, narrow: Experiment) -> Row:
  """The loss of many rows at once is the sum of the losses of the rows."""
  score, params = nn.apply(narrow.objective, narrow.model), subject.params

  @jax.jit
  def total(rows):
    with sharding.use(subject.program.layout):
      return score({"params": params}, rows)["loss"].total

  def of(start, stop):
    return float(total({name: x[start:stop] for name, x in subject.rows.items()}))

  B = narrow.batch_size
  one_by_one = np.array([of(b, b + 1) for b in range(B)])
  # Three sums, as one that is rounded may come out right by chance.
  parts = [(0, B), (0, B // 2), (B // 2, B)]
  pairs = [(of(*part), float(one_by_one[slice(*part)].sum())) for part in parts]
  together, alone = max(pairs, key=lambda pair: abs(pair[0] - pair[1]) / max(abs(pair[1]), 1e-6))
  far = abs(together - alone) / max(abs(alone), 1e-6)
  return within("sums", far, EQUAL, f"rows together {together:.7g}, one by one {alone:.7g}")


def _dropping(subject: Subject, changes: dict[str, Any], rate: float = 0.1) -> Experiment:
  """The plain experiment changed, and with dropout in every layer that has it."""
  plain = dataclasses.replace(subject.plain, objective=subject.experiment.objective)
  return changed(plain, {**dict.fromkeys(dropouts(plain), rate), **changes})
