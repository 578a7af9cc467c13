"""One line on the terminal while something takes long; nothing where nobody looks."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator


@contextlib.contextmanager
def line(what: str) -> Iterator[Callable[[Iterable], Iterable]]:
  """`with line("reading") as show: for x in show(things)` counts on stderr, if it is a terminal."""
  if not sys.stderr.isatty():
    yield lambda things: things
    return
  import rich.console
  import rich.progress

  console = rich.console.Console(stderr=True)
  columns = ("{task.description}", "{task.completed:,.0f}", rich.progress.TimeElapsedColumn())
  with rich.progress.Progress(*columns, console=console, transient=True) as bar:
    task = bar.add_task(what, total=None)

    def show(things: Iterable) -> Iterable:
      for thing in things:
        yield thing
        bar.advance(task)

    yield show
