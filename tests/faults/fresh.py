"""The command line in processes of their own, which find everything imported and JAX asleep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .commands import LIMIT, QUICK
from .forks import ROOT, Forks, Limits, forks

MODULES = ("research.cli", "research.commands", "research.report", "research.train")


class Fresh:
  """Starts commands; use inside `fresh()`."""

  def __init__(self, children: Forks):
    self._children = children

  def research(self, *words: str, said: Path) -> int:
    """The exit code of a command (-n for signal n); what it prints is appended to `said`."""
    ended = self._children.run("research.cli:main", words, folder=ROOT)
    with said.open("a") as file:
      file.write(ended.said)
    return ended.code or ended.answer or 0


@contextmanager
def fresh() -> Iterator[Fresh]:
  """A server for the block."""
  with forks(MODULES, Limits(LIMIT, None, None), XLA_FLAGS=QUICK) as children:
    yield Fresh(children)
