"""What is known of one kind of model: its config in both directions, and its name tables."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from research.errors import UserError
from research.hf.config import Config
from research.hf.table import Table, Tensor


@dataclasses.dataclass(frozen=True)
class Family:
  """One `model_type` of Hugging Face.

  Attributes:
    model_type: as config.json has it.
    read: (a config, the names of the tensors) -> our model, or a UserError that says what has no
      counterpart here.
    write: our model -> its config, or a UserError that says what has no counterpart there.
    tables: our model -> its name tables.
    architectures: the classes of transformers -> the parts (`Row.part`) that their checkpoints may
      have beside what all have; the first that has those of a model is written, so that smaller
      ones come first.
    prefix: before the names of the bare model's tensors in the checkpoints of all other classes.
    bare: the class whose checkpoints have no prefix.
    buffers: patterns of tensors that hold no weights, which older checkpoints have.
    renamed: older spellings -> newer ones, within a name.
  """

  model_type: str
  read: Callable[[Config, Collection[str]], Any]
  write: Callable[[Any], dict[str, Any]]
  tables: Callable[[Any], Sequence[Table]]
  architectures: Mapping[str, frozenset[str]]
  prefix: str = ""
  bare: str = ""
  buffers: tuple[str, ...] = ()
  renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def tensors(self, model: Any) -> list[Tensor]:
    """Every tensor that a checkpoint of the model may have."""
    return [tensor for table in self.tables(model) for tensor in table.tensors()]

  def spelled(self, name: str) -> str | None:
    """A name of a checkpoint as it is spelled today, None for a buffer."""
    if any(re.fullmatch(pattern, name) for pattern in self.buffers):
      return None
    for old, new in self.renamed.items():
      name = name.replace(old, new)
    return name

  def architecture(self, parts: Collection[str], imported: Sequence[str] = ()) -> str:
    """The class of transformers that has these parts: the imported one before all others.

    Raises:
      UserError: there is none.
    """
    known = [name for name in imported if name in self.architectures]
    for name in (*known, *self.architectures):
      if self.architectures[name].issuperset(parts):
        return name
    raise UserError(
      f"transformers has no {self.model_type} model with {' and '.join(sorted(parts))}; its "
      f"classes are {', '.join(self.architectures)}."
    )


def only(model: Any, what: str, **wanted: Any) -> None:
  """UserError unless the fields of a model have the values that theirs is limited to.

  Args:
    model: ours.
    what: of theirs, for the message.
    **wanted: field -> its value, or a tuple of those that are possible.
  """
  for field, values in wanted.items():
    values = values if isinstance(values, tuple) else (values,)
    if getattr(model, field) not in values:
      raise UserError(
        f"model.{field}={getattr(model, field)!r} cannot be exported: {what} has only "
        f"{' or '.join(map(repr, values))}."
      )
