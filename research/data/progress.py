"""One line on the terminal while something takes long; nothing where nobody looks.

What is counted is a sign of progress, for whoever waits for one.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator

from research import watchdog


@contextlib.contextmanager
def line(what: str) -> Iterator[Callable[[Iterable], Iterable]]:
  """`with line("reading") as show: for x in show(things)` counts on stderr, if it is a terminal."""
  if not sys.stderr.isatty():
    yield _counted
    return
  import rich.console
  import rich.progress

  console = rich.console.Console(stderr=True)
  columns = ("{task.description}", "{task.completed:,.0f}", rich.progress.TimeElapsedColumn())
  with rich.progress.Progress(*columns, console=console, transient=True) as bar:
    task = bar.add_task(what, total=None)

    def show(things: Iterable) -> Iterable:
      for thing in _counted(things):
        yield thing
        bar.advance(task)

    yield show


def _counted(things: Iterable) -> Iterator:
  for thing in things:
    watchdog.alive()
    yield thing
