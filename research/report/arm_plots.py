"""The plots that compare arms: learning curves over seeds, an effect, quality against cost."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence

import numpy as np

from research import statistics
from research.claims import Line
from research.report import canvas
from research.report.canvas import PAINT, SEVERAL
from research.statistics import Interval

WORST = 2.0  # a loss counts up to this multiple of the best one: what is above has failed
STRIP = 74  # height of the plot of an effect, in pixels


@dataclasses.dataclass(frozen=True)
class Arm:
  """A metric of an arm: steps (S,), values (seeds, S), NaN where one was not measured."""

  name: str
  steps: np.ndarray
  values: np.ndarray


def curves(arms: Sequence[Arm], *, lower: bool, key: str, size: tuple[int, int]) -> str:
  """The mean of every arm by step, its seeds faint, its 95 % interval as a band.

  Args:
    arms: each with a finite value, or it is left out.
    lower: whether less is better; then the plot leaves out what is far above the lowest.
    key: a word for the ids inside, unique in the page.
    size: width and height in CSS pixels.
  """
  arms = [arm for arm in arms if np.isfinite(arm.values).any()]
  low, high = _limits(arms, lower)
  ends = sorted(
    ((arm.name, _last(arm), SEVERAL[i % len(SEVERAL)]) for i, arm in enumerate(arms)),
    key=lambda end: end[1],
  )
  names = [canvas.clip(name) for name, *_ in ends]
  texts = [f"{n} {end[1]:.3g}" if size[0] > 500 else n for n, end in zip(names, ends)]
  with canvas.figure(size) as (figure, axes):
    canvas.place(figure, axes, size, right=24 + 6.0 * max(map(len, texts), default=0))
    for i, arm in enumerate(arms):
      _curve(axes, arm, PAINT[SEVERAL[i % len(SEVERAL)]], "-" if i < len(SEVERAL) else "--")
    axes.set_ylim(low, high)
    axes.set_xlim(0, max((arm.steps[-1] for arm in arms), default=1))
    canvas.side_labels(axes, ends, texts, (low, high), size[1])
    return canvas.svg(figure, key)


def effect(
  found: Interval,
  pairs: Sequence[float],
  *,
  detectable: float,
  asked: tuple[float, float],
  paper: float,
  key: str,
  width: int,
) -> str:
  """An effect with its interval on a line.

  Args:
    found: the effect.
    pairs: the effect in each seed, as small circles.
    detectable: half the width of the shade around zero, NaN for none.
    asked: where the interval should lie; finite ends are drawn as dashed lines.
    paper: the paper's own, a diamond, or NaN.
    key, width: as of `curves`.
  """
  marks = [0.0, found.low, found.high, *pairs, *(end for end in asked if math.isfinite(end))]
  marks += [-detectable, detectable] if math.isfinite(detectable) else []
  reach = max(marks) - min(marks) or abs(found.estimate) or 1.0
  # A paper's effect far off, at another scale, would squeeze ours into a point.
  shown = math.isfinite(paper) and min(marks) - reach <= paper <= max(marks) + reach
  marks += [paper] if shown else []
  reach = max(marks) - min(marks) or 1.0
  with canvas.figure((width, STRIP)) as (figure, axes):
    canvas.place(figure, axes, (width, STRIP), left=10, right=10)
    axes.grid(visible=False)
    axes.set_yticks([])
    axes.set_ylim(-1, 1)
    axes.set_xlim(min(marks) - 0.06 * reach, max(marks) + 0.06 * reach)
    if math.isfinite(detectable):
      axes.axvspan(-detectable, detectable, color=PAINT["rule"], linewidth=0)
    for end in asked:
      if math.isfinite(end):
        axes.axvline(end, color=PAINT["muted"], linewidth=1, dashes=(4, 3))
    axes.plot([found.low, found.high], [0, 0], color=PAINT["train"], linewidth=3)
    axes.plot([found.estimate], [0], "o", color=PAINT["train"], markersize=9)
    dots = {"markersize": 5, "markerfacecolor": "none", "markeredgecolor": PAINT["train"]}
    axes.plot(pairs, [0.55] * len(pairs), "o", **dots)
    if shown:
      axes.plot([paper], [-0.05], "D", color=PAINT["heldout"], markersize=8)
    return canvas.svg(figure, key)


def lines(found: Sequence[Line], *, key: str, size: tuple[int, int]) -> str:
  """Curves over the logarithm of a scale, with the points that were measured.

  Args:
    found: of a verdict.
    key, size: as of `curves`.
  """
  x, y = np.array([point for line in found for point in (*line.path, *line.points)]).T
  room = 0.06 * (np.ptp(y) or abs(y[0]) or 1.0)
  low, high = y.min() - room, y.max() + room
  ends = [(line.name, line.path[-1][1], SEVERAL[i % 8]) for i, line in enumerate(found)]
  ends.sort(key=lambda end: end[1])
  texts = [canvas.clip(name) for name, *_ in ends]
  with canvas.figure(size) as (figure, axes):
    canvas.place(figure, axes, size, right=24 + 6.0 * max(map(len, texts)))
    _logarithmic(axes, x.min() / 1.08, x.max() * 1.08)
    axes.set_ylim(low, high)
    for i, line in enumerate(found):
      color = PAINT[SEVERAL[i % 8]]
      axes.plot(*zip(*line.path, strict=True), color=color, linewidth=1.8)
      axes.plot(*zip(*line.points, strict=True), "o", color=color, markersize=4, alpha=0.6)
    canvas.side_labels(axes, ends, texts, (low, high), size[1])
    return canvas.svg(figure, key)


def pareto(
  points: Sequence[tuple[str, float, float]], *, lower: bool, key: str, size: tuple[int, int]
) -> str:
  """Quality against cost, with a line through those that nothing cheaper beats.

  Args:
    points: name, cost above 0, quality; all finite. What failed stands at `WORST`, with an arrow.
    lower, key, size: as of `curves`.
  """
  costs, measured = (np.array([point[i] for point in points]) for i in (1, 2))
  values = bounded(measured, lower=lower)
  front = [i for i in frontier(points, lower=lower) if values[i] == measured[i]]
  room = 0.08 * (np.ptp(values) or abs(values[0]) or 1.0)
  with canvas.figure(size) as (figure, axes):
    canvas.place(figure, axes, size, left=44, right=14)
    _logarithmic(axes, costs.min() / 1.25, costs.max() * (1.9 if size[0] > 300 else 3.0))
    axes.set_ylim(values.min() - room, values.max() + room)
    axes.plot(
      costs[front],
      values[front],
      color=PAINT["heldout"],
      linewidth=1.2,
      drawstyle="steps-post",
      zorder=1,
    )
    for i, (name, *_) in enumerate(points):
      color = PAINT["heldout" if i in front else "train"]
      axes.plot([costs[i]], [values[i]], "o", color=color, markersize=6)
      if len(points) <= 12 or i in front:
        text = canvas.clip(name) + (" ↑" if values[i] < measured[i] else "")
        place = {"textcoords": "offset points", "xytext": (7, 3), "parse_math": False}
        axes.annotate(text, (costs[i], values[i]), fontsize=9.5, color=PAINT["muted"], **place)
    return canvas.svg(figure, key)


def bounded(values: np.ndarray, *, lower: bool) -> np.ndarray:
  """Values of which those that failed, so bad that all else would look alike, are less bad."""
  low = float(values.min())
  return np.minimum(values, WORST * low) if lower and low > 0 else values


def frontier(points: Sequence[tuple[str, float, float]], *, lower: bool) -> list[int]:
  """Which points are better than all that cost no more, from the cheapest on."""
  best, front = math.inf, []
  sign = 1 if lower else -1
  for i in sorted(range(len(points)), key=lambda i: (points[i][1], sign * points[i][2])):
    if sign * points[i][2] < best:
      best = sign * points[i][2]
      front.append(i)
  return front


def _curve(axes, arm: Arm, color: str, line: str) -> None:
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)  # of steps at which nobody measured
    means = np.nanmean(arm.values, axis=0)
  bands = []
  for column, mean in zip(arm.values.T, means, strict=True):
    there = column[np.isfinite(column)]
    found = statistics.mean(there) if len(there) > 1 else None
    bands.append((found.low, found.high) if found else (mean, mean))
  low, high = np.array(bands).T
  for values in arm.values if len(arm.values) > 1 else ():
    axes.plot(arm.steps, values, color=color, alpha=0.35, linewidth=0.7)
  axes.fill_between(arm.steps, low, high, color=color, alpha=0.13, linewidth=0)
  mark = "o" if len(arm.steps) == 1 else None
  axes.plot(arm.steps, means, line, color=color, linewidth=2, marker=mark, markersize=5)


def _last(arm: Arm) -> float:
  """The mean at the last step that all its seeds reached, or that any did."""
  finite = np.isfinite(arm.values)
  columns = np.flatnonzero(finite.all(0)) if finite.all(0).any() else np.flatnonzero(finite.any(0))
  return float(np.nanmean(arm.values[:, columns[-1]]))


def _limits(arms: Sequence[Arm], lower: bool) -> tuple[float, float]:
  values = np.concatenate([arm.values[np.isfinite(arm.values)] for arm in arms] or [np.zeros(1)])
  low, high = float(values.min()), float(values.max())
  if lower and low > 0:
    last = [_last(arm) for arm in arms]
    high = max([*values[values <= WORST * low], *(x for x in last if x < 4 * low)])
  room = 0.06 * (high - low or abs(high) or 1.0)
  return low - room, high + room


def _logarithmic(axes, low: float, high: float) -> None:
  axes.set_xscale("log")
  axes.minorticks_off()
  axes.set_xlim(low, high)
  axes.set_xticks(_log_ticks(low, high))
  axes.xaxis.set_major_formatter(lambda value, _: canvas.tick(value))


def _log_ticks(low: float, high: float) -> list[float]:
  """One, two or five times powers of ten: as many as an axis has room for."""
  powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
  for steps in ((1, 2, 5), (1, 3), (1,)):
    ticks = [step * 10.0**power for power in powers for step in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) <= 5:
      return ticks
  return ticks[:: math.ceil(len(ticks) / 5)]
