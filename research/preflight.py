"""What is asked of an experiment before anything is read, compiled or written.

`parts` looks at each part by itself and costs nothing; `together` asks whether they go together on
the devices that are here, from shapes alone.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
from collections.abc import Iterator, Mapping
from typing import Any

from research import log, looks
from research.errors import RunError, UserError, nearest, reason, shown
from research.experiment import Experiment
from research.overrides import check_field, fields

LARGEST = 2**31 - 1  # steps and sizes are counted in int32 on the devices
SEEDS = 2**63


def parts(experiment: Experiment) -> None:
  """Raises a UserError for a part of another kind, or a number that is none or out of its range."""
  counted = experiment.optimizer is None
  needs = {
    "data": ("source", "a dataset, such as data.Text(...)"),
    "model": ("fit", "a counted model, since there is no optimizer: models.NGram(...), or give one")
    if counted
    else ("apply", "a model, such as models.GPT(...)"),
    "samples": ("write", "Samples(...)"),
    "optimizer": ("build", "an optimizer, such as optim.AdamW(...)"),
  }
  for name, (method, wanted) in needs.items():
    _kind(
      name, getattr(experiment, name), method, wanted, optional=name in ("samples", "optimizer")
    )
  for field, methods, wanted in (
    ("evals", ("measure", "total"), "Eval(objective)"),
    ("baselines", ("fit", "score"), "a counted model, such as models.NGram(...)"),
  ):
    named = getattr(experiment, field)
    if not isinstance(named, Mapping):
      raise UserError(f"{field}={shown(named)} must be a dict, as {{'name': {wanted}}}.")
    for name, part in named.items():
      if field == "evals" and name in (*log.OWN, looks.SAMPLES):
        raise UserError(
          f"evals.{name}: {name!r} is what the log calls lines of its own; give the evaluation "
          f"another name, such as '{name}_set'."
        )
      method = next((method for method in methods if hasattr(part, method)), methods[0])
      _kind(f"{field}.{name}", part, method, wanted)
  for path, value in _counts(experiment):
    if isinstance(value, int) and value < 1:
      raise UserError(f"{path}={value} must be at least 1, or None.")
  objective = experiment.objective
  if not counted and (not callable(objective) or isinstance(objective, type)):
    raise UserError(
      f"objective={shown(objective)} is no objective: write one such as objectives.NextToken()."
    )
  _numbers("", experiment)


def _counts(experiment: Experiment) -> Iterator[tuple[str, Any]]:
  """What is counted in evaluations and samples, by its path."""
  for name, item in experiment.evals.items():
    for field in ("batches", "every", "batch_size"):
      yield f"evals.{name}.{field}", getattr(item, field, None)
  for field in ("tokens", "every"):
    yield f"samples.{field}", getattr(experiment.samples, field, None)


def together(experiment: Experiment, *others: Experiment) -> None:
  """Raises a UserError where parts do not go together, or not on the devices that are here.

  Others are of the same `Trials`: their optimizers are looked at, all else they share. Shapes are
  traced, with the layers in one loop: a second or less for any model. No data is opened
  where the dataset can say what its examples look like.
  """
  import jax

  from research import optim

  _vocabularies(experiment)
  if experiment.optimizer is None:
    return
  _kept(experiment)
  layout = experiment.sharding.on(jax.device_count())
  rows = layout.parts("B")
  sizes = {"batch_size": experiment.batch_size}
  batched = {name: item for name, item in experiment.evals.items() if hasattr(item, "measure")}
  for name, item in batched.items():
    sizes[f"evals.{name}.batch_size"] = item.batch_size or experiment.batch_size
  for path, size in sizes.items():
    if size % rows:
      raise UserError(
        f"{path}={size} does not divide by the {rows} parts that the mesh splits it into; choose a "
        f"multiple of {rows}, or another sharding.mesh."
      )
  if experiment.batch_size % experiment.microbatches:
    raise UserError(
      f"microbatches={experiment.microbatches} does not divide batch_size="
      f"{experiment.batch_size}; choose a divisor."
    )
  if experiment.average is not None:
    jax.eval_shape(lambda: optim.average({}, {}, experiment.average, 0))
  for each in (experiment, *others):
    _optimizer(each)
  _fits(_traced(experiment, experiment.objective, experiment.batch_size), layout)
  for name, item in batched.items():
    if item.objective != experiment.objective:
      _traced(experiment, item.objective, sizes[f"evals.{name}.batch_size"])


def _optimizer(experiment: Experiment) -> None:
  """It can be built, and its learning rate is one."""
  import jax

  from research import optim

  try:
    built = experiment.optimizer.build(experiment.steps)
    built.init, built.update  # noqa: B018 (a schedule can be built, too)
    jax.eval_shape(lambda: optim.learning_rate(experiment.optimizer, experiment.steps, 0))
  except RunError:
    raise
  except Exception as error:
    raise UserError(
      f"optimizer={shown(experiment.optimizer)} cannot be built ({reason(error)}); write one such "
      "as optim.AdamW(3e-4), with a number or a schedule for its learning_rate."
    ) from error


def _traced(experiment: Experiment, objective: Any, size: int) -> list[Any]:
  """(name, letters, shape) of the parameters that an objective asks for on `size` examples."""
  from research import update
  from research.nn import platform

  asked = dataclasses.replace(experiment, objective=objective, batch_size=size)
  try:
    with platform.compiling_for("plain"):  # layers in one loop
      return update.parameters(asked, update.abstract_batch(asked))
  except RunError:
    raise
  except Exception as error:  # whatever one part does not find in another
    data, model, named = (
      type(part).__name__ if fields(part) is not None else shown(part)
      for part in (experiment.data, experiment.model, objective)
    )
    raise UserError(
      f"the objective {named} cannot be computed of the model {model} on examples of {data}: "
      f"{reason(error)}; choose parts that go together (--traceback shows where it failed)."
    ) from error


def _vocabularies(experiment: Experiment) -> None:
  """A token beyond the model's table would silently be another one."""
  tokenizer = getattr(experiment.data, "tokenizer", None)
  wanted, has = (getattr(part, "vocab_size", None) for part in (tokenizer, experiment.model))
  if isinstance(wanted, int) and isinstance(has, int) and has < wanted:
    raise UserError(
      f"model.vocab_size={has} has no room for the {wanted} tokens of {shown(tokenizer)}; choose "
      f"{wanted} or more."
    )


def _kept(experiment: Experiment) -> None:
  """A best checkpoint by what nothing measures would be deleted."""
  evals = experiment.evals
  for field in ("lowest", "highest"):
    measure = getattr(experiment.keep, field)
    if measure and not any(measure.startswith(f"{name}.") for name in evals):
      name = measure.partition(".")[0]
      raise UserError(
        f"keep.{field}={measure!r}: there is no evaluation {name!r}.{nearest(name, evals)} "
        f"There are {', '.join(evals) or 'none'}."
      )


def _fits(parameters: Any, layout: Any) -> None:
  """Parameters and their gradients alone must fit; what else there is, only a compiler knows."""
  each = sum(
    8 * math.prod(shape) // layout.shards(layout.spec(letters, shape))
    for _, letters, shape in parameters
  )
  room = _memory()
  if each > room:
    count = sum(math.prod(shape) for _, _, shape in parameters)
    raise UserError(
      f"the model's {count:,} parameters and their gradients take {each / 2**30:,.1f} GiB of each "
      f"device, which has {room / 2**30:,.1f}; choose a smaller model, or a sharding.mesh that "
      "splits it over more devices."
    )


def _memory() -> float:
  """Bytes of a device; those of a CPU share the machine's."""
  import jax

  device = jax.local_devices()[0]
  if device.platform == "cpu":
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / jax.local_device_count()
  return (device.memory_stats() or {}).get("bytes_limit", math.inf)


def _kind(path: str, part: Any, method: str, wanted: str, *, optional: bool = False) -> None:
  if optional and part is None:
    return
  if isinstance(part, type):
    raise UserError(f"{path}={part.__name__} is a class; call it: {part.__name__}(...).")
  if not callable(getattr(part, method, None)):
    said = shown(part) if fields(part) is None else f"{type(part).__name__}(...)"
    raise UserError(f"{path}={said} is of another kind; it must be {wanted}.")


def _numbers(path: str, value: Any) -> None:
  """Every plain number and word in a value: of the type that its field names, finite, not huge."""
  named = fields(value)
  if named is None:
    for number in value if isinstance(value, tuple | list) else (value,):
      _number(path, number)
    return
  for name, part in named.items():
    inside = f"{path}.{name}" if path else name
    if isinstance(part, type) and dataclasses.is_dataclass(part):
      raise UserError(f"{inside}={part.__name__} is a class; call it: {part.__name__}(...).")
    check_field(value, name, part, inside)
    _numbers(inside, part)


def _number(path: str, value: Any) -> None:
  if not isinstance(value, numbers.Real) or isinstance(value, bool):
    return
  largest = LARGEST if path == "steps" else SEEDS - 1
  if isinstance(value, int) and abs(value) > largest:
    raise UserError(f"{path}={shown(value)} is beyond what can be counted; at most {largest}.")
  if not math.isfinite(value):
    raise UserError(
      f"{path}={value} is no finite number; give one, or None where that is a choice."
    )
