"""The line that says how a run is doing: live in a terminal, now and then everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

PLAIN_SECONDS = 10.0  # between two lines where there is no terminal
REDRAWS_PER_SECOND = 4  # the cores belong to the run


def progress(
  steps: int,
  start: int = 0,
  *,
  what: str = "step",
  stream: TextIO | None = None,
  clock: Callable[[], float] = time.monotonic,
) -> Live | Plain:
  """The display for `stream` (stderr by default): `Live` for a terminal, `Plain` otherwise."""
  stream = sys.stderr if stream is None else stream
  return Live(stream, steps, start) if stream.isatty() else Plain(stream, steps, what, clock)


def counted(
  what: str,
  total: int,
  *,
  stream: TextIO | None = None,
  clock: Callable[[], float] = time.monotonic,
) -> Iterator[int]:
  """The numbers from 0, while a line says how many are done and how long the others will take.

  Args:
    what: is counted, in the singular.
    total: how many there are.
    stream: see `progress`.
    clock: in seconds.
  """
  shown, began = progress(total, what=what, stream=stream, clock=clock), clock()
  try:
    for number in range(total):
      yield number
      elapsed = clock() - began
      shown.update(number + 1, {}, elapsed, elapsed / (number + 1) * (total - number - 1))
  finally:
    shown.close()


class Live:
  """One line at the bottom of a terminal, drawn over and over."""

  def __init__(self, stream: TextIO, steps: int, start: int):
    # rich takes 0.1 s to import: a job without a terminal does not need it.
    from rich import console, progress

    self._progress = progress.Progress(
      progress.TextColumn("{task.completed:.0f}/{task.total:.0f}"),
      progress.BarColumn(8),
      progress.TextColumn("{task.description}", markup=False),
      console=console.Console(file=stream),
      refresh_per_second=REDRAWS_PER_SECOND,
    )
    self._task = self._progress.add_task("starting", total=steps, completed=start)
    self._text = ""
    self._progress.start()

  def update(self, step: int, values: Mapping[str, float], elapsed: float, left: float | None):
    """Shows where the run is; `elapsed` and `left` are seconds."""
    self._text = sentence(values, elapsed, left)
    self._progress.update(self._task, completed=step, description=self._text)

  def activity(self, what: str) -> None:
    """Shows what the run does beside training; an empty word for training itself."""
    text = f"{self._text}  {what}".strip()
    self._progress.update(self._task, description=text or "starting")

  def note(self, text: str) -> None:
    """Prints a line above."""
    self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

  def close(self) -> None:
    """Leaves the last state standing."""
    self._progress.stop()


class Plain:
  """Lines of text for files and pipes, the first and the last step and few between them."""

  def __init__(self, stream: TextIO, steps: int, what: str, clock: Callable[[], float]):
    self._stream, self._steps, self._what, self._clock = stream, steps, what, clock
    self._next = clock()
    self._unshown: str | None = None

  def update(self, step: int, values: Mapping[str, float], elapsed: float, left: float | None):
    """Prints where the run is, when the last time is long enough ago."""
    self._unshown = f"{self._what} {step}/{self._steps}  {sentence(values, elapsed, left)}"
    if self._clock() >= self._next:
      self._next = self._clock() + PLAIN_SECONDS
      self.note(self._unshown)
      self._unshown = None

  def activity(self, what: str) -> None:
    """A log file needs no word about a pause: its result is told when it is over."""

  def note(self, text: str) -> None:
    """Prints a line."""
    print(text, file=self._stream, flush=True)

  def close(self) -> None:
    """Prints where the run ended, unless that was printed."""
    if self._unshown:
      self.note(self._unshown)
      self._unshown = None


def sentence(values: Mapping[str, Any], elapsed: float, left: float | None) -> str:
  """`loss 3.214  12.3k tokens/s  31 % of peak  1:20 + 4:00 left`, of what is known."""
  parts = []
  if "loss" in values:
    parts.append(f"loss {values['loss']:.4g}")
  if "tokens_per_second" in values:
    parts.append(f"{short(values['tokens_per_second'])} tokens/s")
  if "peak_share" in values:
    parts.append(f"{100 * values['peak_share']:.0f} % of peak")
  parts.append(duration(elapsed) + ("" if left is None else f" + {duration(left)} left"))
  return "  ".join(parts)


def measured(values: Mapping[str, Any], errors: Mapping[str, float]) -> str:
  """`loss 3.214 ± 0.012  accuracy 0.42`, of what an evaluation came to."""
  return "  ".join(
    f"{name} {value:.4g}" + (f" ± {errors[name]:.2g}" if name in errors else "")
    for name, value in values.items()
    if isinstance(value, int | float) and not (name == "nats" and value == values.get("loss"))
  )


def short(value: float) -> str:
  """Three digits and a letter: 12.3k, 4.56M."""
  for letter in ("", "k", "M", "G", "T", "P"):
    if abs(value) < 999.5 or letter == "P":
      return f"{value:.3g}{letter}"
    value /= 1000
  raise AssertionError(value)


def duration(seconds: float) -> str:
  """`0:07`, `12:34`, `1:02:03`, `2 days 3:04:05`."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  days, hours = divmod(hours, 24)
  clock = f"{hours}:{minutes:02}:{seconds:02}" if hours or days else f"{minutes}:{seconds:02}"
  return f"{days} day{'s' * (days > 1)} {clock}" if days else clock
