"""The names of labels, numbered; they come from the training file and from nowhere else."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Sequence

from research.errors import UserError, nearest, reason

FILE = "labels.json"
SHOWN = 20


class Labels:
  """Names in the order of their numbers.

  Attributes:
    names: of label 0, 1, ...
  """

  def __init__(self, names: Sequence[str]):
    self.names = tuple(names)
    self._numbers = {name: i for i, name in enumerate(self.names)}

  @classmethod
  def of(cls, given: Iterable[str]) -> Labels:
    """Those that occur, sorted; the order of examples does not matter."""
    return cls(sorted(set(given)))

  def __len__(self) -> int:
    return len(self.names)

  def __contains__(self, name: str) -> bool:
    return name in self._numbers

  def number(self, name: str, where: str) -> int:
    """The number of a label; UserError, naming `where` it stands, for one of no training."""
    if name not in self._numbers:
      raise UserError(
        f"{where}: the label {name[:80]!r} is not in the training file, which has "
        f"{self.listed()}.{nearest(name, self.names)} Correct it, or train on it"
      )
    return self._numbers[name]

  def listed(self) -> str:
    """The first names, for messages."""
    more = f", ... ({len(self)} in all)" if len(self) > SHOWN else ""
    return ", ".join(name[:40] for name in self.names[:SHOWN]) + more

  def fit(self, room: int, what: str) -> None:
    """Raises a UserError unless a model has as many outputs as there are labels."""
    if len(self) != room:
      raise UserError(
        f"the training file has {len(self)} {what} ({self.listed()}), and the data says "
        f"{what}={room}; give {what}={len(self)}"
      )

  def save(self, path: str | pathlib.Path) -> None:
    """Writes them as JSON.

    Raises:
      UserError: there are others already: those that a model was trained with.
    """
    path = pathlib.Path(path)
    if path.is_file() and (before := Labels.load(path)).names != self.names:
      gone, new = set(before.names) - set(self.names), set(self.names) - set(before.names)
      changes = [f"without {', '.join(sorted(gone)[:5])}"] if gone else []
      changes += [f"with {', '.join(sorted(new)[:5])}"] if new else []
      raise UserError(
        f"the labels of the training file have changed since {path.parent} was trained "
        f"({'; '.join(changes) or 'in their order'}); bring them back, or give another --workdir"
      )
    path.write_text(json.dumps(self.names, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

  @classmethod
  def load(cls, path: str | pathlib.Path) -> Labels:
    """Reads what `save` wrote; UserError where it is missing or damaged."""
    try:
      names = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
      raise UserError(f"{path} cannot be read ({reason(error)}); copy it from the run") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
      raise UserError(f"{path} is no list of labels; copy it from the run again")
    return cls(names)
