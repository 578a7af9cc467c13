"""What a run was told, a line each in health.jsonl, so that nothing is said twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from research import distributed
from research.log import lines

FILE = "health.jsonl"


class Told:
  """The notices of one run.

  A line has "step", unless its text names it, "kind", which is said once, and "text".
  """

  def __init__(self, workdir: Path, note: Callable[[str], None], start: int):
    """Opens the file; lines that have a step after `start` are dropped, as it is gone over again.

    Those whose text names the step stay, and each stands for its repetition. Here and later, a
    disk that takes no more is a `RunError`.
    """
    self._path, self._note = Path(workdir) / FILE, note
    self._writes = distributed.first()
    kept = []
    if self._writes and self._path.exists():
      with lines.written(self._path):
        kept = lines.keep(self._path, start)
    self._kinds = {str(line.get("kind")) for line in kept}
    self._again = Counter(str(line.get("text")) for line in kept if "step" not in line)

  def once(self, step: int, kind: str, text: str) -> None:
    """Says it, unless something of this kind was said of the run before."""
    if kind not in self._kinds:
      self.say(step, kind, text)

  def say(self, step: int, kind: str, text: str) -> None:
    """Prints it above the progress and writes it down."""
    self._note(f"step {step}  {text}")
    self.keep(step, kind, text)

  def keep(self, step: int | None, kind: str, text: str) -> None:
    """Writes down what was printed elsewhere; None of a text that names its step itself."""
    self._kinds.add(kind)
    if step is None and self._again[text] > 0:
      self._again[text] -= 1
      return
    if self._writes:
      where = {} if step is None else {"step": step}
      with lines.written(self._path), lines.append(self._path) as file:
        file.write(lines.encode({**where, "kind": kind, "text": text}))


def read(workdir: Path) -> list[dict[str, Any]]:
  """The lines of a run, in order; none where there is no file."""
  found, _ = lines.read(Path(workdir) / FILE)
  return [line for line in found if isinstance(line.get("text"), str)]
