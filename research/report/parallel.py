"""Parallel coordinates: every run of a sweep as a line through its fields to what it reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from research.report import canvas
from research.report.canvas import PAINT
from research.report.importance import number

_LOGARITHMIC = 20.0  # ratio of the largest to the least from which on an axis is logarithmic
_NAMED = 7  # values that an axis names at most
_BEST = 0.2  # share of the runs that are drawn in colour


def parallel(
  fields: Mapping[str, Sequence[Any]],
  outcomes: np.ndarray,
  outcome: str,
  *,
  lower: bool,
  key: str,
  size: tuple[int, int],
) -> str:
  """SVG; the best fifth of the runs in the page's second colour, above the others.

  Args:
    fields: the values of every run, by the field's name.
    outcomes: (runs,), finite, named `outcome`.
    lower: whether less is better; the axis then has the best at its top.
    key, size: as of `arm_plots.curves`.
  """
  axes_of = [(name, *_axis(values)) for name, values in fields.items()]
  heights, marks = _axis(list(outcomes))
  if lower:
    heights, marks = 1 - heights, [(1 - at, text) for at, text in marks]
  axes_of.append((outcome, heights, marks))
  table = np.array([heights for _, heights, _ in axes_of])
  worst_first = np.argsort(heights, kind="stable")
  best = max(1, round(_BEST * len(outcomes)))
  with canvas.figure(size) as (figure, axes):
    canvas.place(figure, axes, size, left=26, right=64, bottom=30)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.set_yticks([])
    axes.set_ylim(-0.05, 1.05)
    axes.set_xlim(0, len(axes_of) - 1)
    axes.set_xticks([])
    for rank, run in enumerate(worst_first):
      top = rank >= len(outcomes) - best
      look = {"color": PAINT["heldout"], "alpha": 0.9, "linewidth": 1.6}
      if not top:
        look = {"color": PAINT["train"], "alpha": 0.35, "linewidth": 0.9}
      axes.plot(range(len(axes_of)), table[:, run], **look)
    for i, (name, _, marks) in enumerate(axes_of):
      axes.axvline(i, color=PAINT["muted"], linewidth=0.8)
      side = "left" if i == 0 else "center" if i < len(axes_of) - 1 else "right"
      axes.text(i, -0.14, _short(name), color=PAINT["ink"], ha=side, fontsize=10, parse_math=False)
      for at, text in marks:
        place = {"textcoords": "offset points", "xytext": (5, 3), "parse_math": False}
        axes.annotate(text, (i, at), fontsize=9, color=PAINT["muted"], **place)
    return canvas.svg(figure, key)


def _axis(values: Sequence[Any]) -> tuple[np.ndarray, list[tuple[float, str]]]:
  """Heights from 0 to 1, and the heights that are named."""
  numbers = np.array([number(value) for value in values])
  if not np.isfinite(numbers).all():
    names = sorted(set(map(str, values)))
    step = 1 / max(len(names) - 1, 1)
    marks = [(i * step, canvas.clip(name)) for i, name in enumerate(names)]
    return np.array([names.index(str(value)) * step for value in values]), marks[:_NAMED]
  scaled = np.log(numbers) if _logarithmic(numbers) else numbers
  low, reach = scaled.min(), np.ptp(scaled) or 1.0
  heights = (scaled - low) / reach
  named = sorted(set(zip(heights.tolist(), numbers.tolist(), strict=True)))
  if len(named) > _NAMED:  # the ends say the rest
    named = [named[0], named[len(named) // 2], named[-1]]
  marks = []
  for at, value in named:
    if not marks or at - marks[-1][0] > 0.06:
      marks.append((at, canvas.tick(value)))
  return heights, marks


def _logarithmic(numbers: np.ndarray) -> bool:
  return bool((numbers > 0).all() and numbers.max() / numbers.min() >= _LOGARITHMIC)


def _short(path: str) -> str:
  """The end of a dotted path says the most."""
  parts = path.split(".")
  return canvas.clip(".".join(parts[-2:]) if len(parts[-1]) < 6 else parts[-1])
