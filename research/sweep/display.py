"""What a sweep shows while it runs: a table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from research import entry
from research.log.lines import number
from research.log.progress import duration, short
from research.sweep.row import HELD, WAITING, Row

EVERY = {True: 1.0, False: 30.0}  # seconds between two looks, on a terminal and elsewhere
TAIL = 16_384  # bytes at the end of a journal that tell how a run is doing


class Pace(NamedTuple):
  """How a run is doing: its step, seconds for a step (NaN: not known yet), and its loss."""

  step: int = 0
  seconds: float = float("nan")
  loss: float = float("nan")


def pace(workdir: Path) -> Pace:
  """That of the newest lines of a run's journal."""
  try:
    with (workdir / "metrics.jsonl").open("rb") as file:
      file.seek(max(0, file.seek(0, 2) - TAIL))
      texts = file.read().split(b"\n")
  except OSError:
    return Pace()
  lines = []
  for text in texts:
    with contextlib.suppress(ValueError):  # the first may be cut, the last unfinished
      line = json.loads(text)
      if isinstance(line, dict) and line.get("split") == "train":
        lines.append(line)
  if not lines:
    return Pace()
  first, last = lines[0], lines[-1]
  steps = last["step"] - first["step"]
  seconds = (last["time"] - first["time"]) / steps if steps > 0 else float("nan")
  return Pace(last["step"], seconds, number(last.get("loss")))


def left(rows: Sequence[Row], paces: dict[str, Pace], workers: int) -> float | None:
  """Seconds that all will take from here, None where no run has shown its pace yet.

  A run that has not begun is taken to be as fast as the average of those that have.
  """
  known = [each.seconds for each in paces.values() if each.seconds == each.seconds]
  if not known:
    return None
  usual = sum(known) / len(known)
  total = 0.0
  for row in rows:
    if row.open or row.state == entry.RUNNING:
      step, seconds, _ = paces.get(row.name, Pace())
      total += (row.steps - step) * (seconds if seconds == seconds else usual)
  return total / workers


@contextlib.contextmanager
def display(rows: Sequence[Row], workers: int, stream: TextIO | None = None) -> Iterator[Display]:
  """The display for `stream`, stderr by default; it leaves its last state standing."""
  shown = Display(rows, workers, sys.stderr if stream is None else stream)
  try:
    yield shown
  finally:
    shown.close()


class Display:
  """How the rows of a sweep stand."""

  def __init__(self, rows: Sequence[Row], workers: int, stream: TextIO):
    self._rows, self._workers, self._stream = rows, workers, stream
    self._began = self._looked = time.monotonic()
    self._paces: dict[str, Pace] = {}
    self._stopping = 0
    self._terminal = stream.isatty()
    self._live = None
    if self._terminal:
      from rich.console import Console
      from rich.live import Live

      console = Console(file=stream, markup=False, highlight=False)
      self._live = Live(console=console, auto_refresh=False, transient=True)
      self._live.start()

  def tell(self, row: Row) -> None:
    """A row has changed."""
    if self._live is not None and row.state in (entry.RUNNING, WAITING):
      return  # the table shows it
    about = f": {row.error}" if row.error else ""
    if row.state == WAITING:
      about = f": {row.how()}; it is started again"
    self._say(f"{row.name} {'in use' if row.state == HELD else row.state}{about}")

  def stopping(self, times: int) -> None:
    """All processes were asked to stop so often."""
    if times > self._stopping:
      self._say("once more, and they end at once" if self._stopping else "stopping: all save")
      self._stopping = times

  def update(self) -> None:
    """Looks at what runs, when the last look is long enough ago."""
    if time.monotonic() - self._looked < EVERY[self._terminal]:
      return
    self._looked = time.monotonic()
    for row in self._rows:
      if row.state == entry.RUNNING:
        self._paces[row.name] = pace(row.workdir)
    if self._live is None:
      self._say(self._sentence())
    else:
      self._live.update(self._table(), refresh=True)

  def close(self) -> None:
    """The display ends; what was told stays."""
    if self._live is not None:
      self._live.stop()

  def _say(self, text: str) -> None:
    if self._live is None:
      print(text, file=self._stream, flush=True)
    else:
      self._live.console.print(text, soft_wrap=True)

  def _sentence(self) -> str:
    counts = {state: sum(row.state == state for row in self._rows) for state in _STATES}
    parts = [f"{count} {state}" for state, count in counts.items() if count]
    more = left(self._rows, self._paces, self._workers)
    spent = duration(time.monotonic() - self._began)
    return ", ".join(parts) + f"  {spent}" + ("" if more is None else f" + {duration(more)} left")

  def _table(self):
    from rich.console import Group
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for head in ("run", "step", "loss", "steps/s", "left"):
      table.add_column(head, justify="left" if head == "run" else "right")
    for row in self._rows:
      if row.state == entry.RUNNING:
        step, seconds, loss = self._paces.get(row.name, Pace())
        known = seconds == seconds and seconds > 0
        table.add_row(
          row.name,
          f"{step}/{row.steps}",
          "" if loss != loss else f"{loss:.4g}",
          short(1 / seconds) if known else "",
          duration((row.steps - step) * seconds) if known else "starting",
        )
    return Group(table, self._sentence())


_STATES = (entry.DONE, entry.FAILED, entry.RUNNING, HELD, WAITING, entry.STOPPED)
