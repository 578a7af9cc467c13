"""An experiment is a frozen value that names one of each: data, model, objective, optimizer.

It opens nothing, so it can be printed, compared, varied and overridden before anything runs.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from research.errors import UserError
from research.guard import Guard
from research.init_from import InitFrom
from research.lora import LoRA
from research.mesh import Sharding
from research.overrides import fields, override
from research.retention import Keep

# Fields of a run that change what is recorded or where it runs, but not what is computed.
BOOKKEEPING = (
  "evals",
  "samples",
  "baselines",
  "save_every",
  "keep",
  "log_every",
  "patience",
  "sharding",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """Everything that a run depends on.

  Attributes:
    name: of the experiment; a word of letters, digits, `_`, `-` and `.`.
    data: a Dataset: its `source(split)` yields the examples of "train" and "heldout".
    model: a Linen module (unbuilt), or a counted model (`models.NGram`) that is fitted in one go.
    objective: (model, batch) -> Metrics; training minimizes "loss".
    optimizer: hyperparameters; `.build(steps)` gives the optax transformation. None for a model
      that is counted, not descended.
    init_from: another run, whose parameters this one starts from; None starts from chance.
    adapters: narrow arrays beside some weights, trained in their place; None for none.
    steps: updates in all; the learning rate's schedule spans them.
    batch_size: examples in one update, over all devices.
    microbatches: pieces that a batch is cut into to save memory; the result does not change.
    memory_target: GiB that a step may need on each device; where it would need more, the batch is
      cut into more microbatches, as few as will do. None leaves `microbatches` as they are.
    seed: of the initial values, the order of the data and the dropout.
    average: decay of the exponential moving average of the parameters; evaluations then use it.
    sharding: the mesh and the letter rules.
    evals: evaluations by name.
    samples: what the model is asked to write during training, or None.
    baselines: models fitted by counting on the same tokens, for the same plot.
    save_every: steps between checkpoints; None for a tenth of the run.
    keep: which checkpoints are not deleted.
    log_every: steps between lines of metrics.
    guard: which updates are not made, and what becomes of a run where they pile up.
    patience: seconds without a sign of progress after which a process counts as stuck and ends,
      with its stacks printed, to be started again; None waits for ever.
  """

  name: str
  data: Any
  model: Any
  objective: Callable[..., Any] | None = None
  optimizer: Any | None = None
  init_from: InitFrom | None = None
  adapters: LoRA | None = None
  steps: int = 1
  batch_size: int = 1
  microbatches: int = 1
  memory_target: float | None = None
  seed: int = 0
  average: float | None = None
  sharding: Sharding = Sharding()  # noqa: RUF009 (frozen)
  evals: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  samples: Any | None = None
  baselines: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  save_every: int | None = None
  keep: Keep = Keep()  # noqa: RUF009 (frozen)
  log_every: int = 10
  guard: Guard = Guard()  # noqa: RUF009 (frozen)
  patience: float | None = 1800.0

  def __post_init__(self):
    for field in ("steps", "batch_size", "microbatches", "save_every", "log_every"):
      value = getattr(self, field)
      if value is not None and value < 1:
        raise UserError(f"{field}={value} must be at least 1.")
    if self.patience is not None and self.patience < 1:
      raise UserError(f"patience={self.patience} is in seconds and must be at least 1, or None.")
    if self.memory_target is not None and self.memory_target <= 0:
      raise UserError(f"memory_target={self.memory_target} is in GiB and must be above 0.")

  def vary(self, name: str, overrides: Mapping[str, Any]) -> Experiment:
    """This experiment under another name, with dotted overrides: an arm of an ablation."""
    return override(dataclasses.replace(self, name=f"{self.name}/{name}"), overrides)

  def describe(self) -> dict[str, str]:
    """Every field by its dotted path, as text; two experiments with the same text are equal."""
    return dict(_flatten("", self))


def _flatten(path: str, value: Any) -> Iterator[tuple[str, str]]:
  parts = fields(value)
  if parts is None:
    yield path, re.sub(r" at 0x[0-9a-f]+", "", repr(value))  # where it is, is not what it is
    return
  if path and not isinstance(value, Mapping | tuple):
    yield path, type(value).__name__
  for name, part in parts.items():
    yield from _flatten(f"{path}.{name}" if path else name, part)
