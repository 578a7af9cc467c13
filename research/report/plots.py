"""The plots of a report on one run: the loss beside what it is compared with, and small panels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from research.report.canvas import PAINT, clip, figure, place, side_labels, svg

_POINTS = 600  # what a line keeps: more would be finer than a pixel
_TALLEST = 2.0  # a plot ends at this multiple of its lowest value: what is above says little


@dataclasses.dataclass(frozen=True)
class Curve:
  """Values by step; `errors` are standard errors, NaN where unknown."""

  name: str
  steps: np.ndarray
  values: np.ndarray
  errors: np.ndarray | None = None

  def finite(self) -> Curve:
    """Without the steps whose value is NaN or infinite."""
    good = np.isfinite(self.values)
    errors = None if self.errors is None else self.errors[good]
    return Curve(self.name, self.steps[good], self.values[good], errors)


def loss(
  train: Curve,
  heldout: Sequence[Curve],
  baselines: Sequence[tuple[str, float]],
  *,
  key: str,
  size: tuple[int, int],
) -> str:
  """The loss while training, and what it is to be compared with.

  Args:
    train: every step that was logged; it may be empty.
    heldout: one curve for each evaluation, the first in the page's colour for it.
    baselines: name and value, drawn as dashed levels.
    key: a word for the ids inside, unique in the page.
    size: width and height in CSS pixels.
  """
  train, heldout = train.finite(), [curve.finite() for curve in heldout]
  low, high = _limits(train, heldout, [value for _, value in baselines])
  labels = []
  smoothed = smooth(train)
  if len(smoothed.values):
    labels.append(("train", smoothed.values[-1], "train"))
  paints = ["heldout", "other"]
  for i, curve in enumerate(heldout):
    if len(curve.values):
      labels.append((clip(curve.name), curve.values[-1], paints[min(i, 1)]))
  labels += [(clip(name), value, "muted") for name, value in baselines if np.isfinite(value)]
  labels.sort(key=lambda label: label[1])
  # Where there is little room, the table has the values.
  texts = [f"{name} {value:.3g}" if size[0] > 500 else name for name, value, _ in labels]
  texts = [f"{text} ↑" if label[1] > high else text for text, label in zip(texts, labels)]

  with figure(size) as (drawn, axes):
    margin = 24 + 6.0 * max(map(len, texts), default=0)
    place(drawn, axes, size, right=margin)
    for _, value in baselines:
      if low <= value <= high:
        axes.axhline(value, color=PAINT["muted"], linewidth=0.9, dashes=(4, 3), zorder=1)
    raw = thin(train)
    axes.plot(raw.steps, raw.values, color=PAINT["train"], alpha=0.3, linewidth=0.8)
    axes.plot(smoothed.steps, smoothed.values, color=PAINT["train"], linewidth=2.2)
    for i, curve in enumerate(heldout):
      _evaluation(axes, curve, PAINT[paints[min(i, 1)]])
    axes.set_ylim(low, high)
    last = max([curve.steps[-1] for curve in (train, *heldout) if len(curve.steps)], default=1)
    axes.set_xlim(0, max(last, 1))
    side_labels(axes, labels, texts, (low, high), size[1])
    return svg(drawn, key)


def panel(curve: Curve, *, key: str, size: tuple[int, int]) -> str:
  """A small plot of one quantity."""
  curve = curve.finite()
  with figure(size) as (drawn, axes):
    place(drawn, axes, size, right=14)
    raw = thin(curve)
    axes.plot(raw.steps, raw.values, color=PAINT["train"], linewidth=1.3)
    largest, smallest = curve.values.max(), curve.values.min()
    # From zero, unless that would flatten what there is to see.
    bottom = 0 if 0 <= smallest < 0.6 * largest else smallest - 0.1 * abs(largest - smallest)
    top = largest + 0.08 * (largest - bottom or 1)
    axes.set_ylim(bottom, top)
    axes.set_xlim(0, max(curve.steps[-1], 1))
    axes.locator_params(axis="both", nbins=4)
    return svg(drawn, key)


def thin(curve: Curve) -> Curve:
  """Fewer points with the same look: the lowest and the highest of every stretch stay."""
  n = len(curve.values)
  if n <= _POINTS:
    return curve
  kept = set()
  for piece in np.array_split(np.arange(n), _POINTS // 2):
    kept |= {piece[curve.values[piece].argmin()], piece[curve.values[piece].argmax()]}
  order = np.array(sorted(kept))
  return Curve(curve.name, curve.steps[order], curve.values[order])


def smooth(curve: Curve) -> Curve:
  """Local averages (Gaussian), narrow at the start where a loss falls fast; they do not lag."""
  n = len(curve.values)
  if n < 3:
    return curve
  pieces = np.array_split(np.arange(n), min(n, _POINTS))
  steps = np.array([curve.steps[piece].mean() for piece in pieces])
  values = np.array([curve.values[piece].mean() for piece in pieces])
  i = np.arange(len(pieces), dtype=float)
  width = np.clip(0.04 * i, 0.3, max(len(pieces) / 40, 0.3))
  # The window shrinks at the end: half a window would average in the higher losses before it.
  width = np.minimum(width, 0.3 + 0.5 * (len(pieces) - 1 - i) + len(pieces) / 100)
  weights = np.exp(-0.5 * ((i[:, None] - i[None, :]) / width[:, None]) ** 2)
  return Curve(curve.name, steps, weights @ values / weights.sum(1))


def _limits(train, heldout, levels) -> tuple[float, float]:
  """Of the loss axis: the first steps, and levels far off, may lie above its end."""
  shown = [np.array(levels, float), *(curve.values for curve in heldout)]
  latest = [curve.values[-1] for curve in heldout if len(curve.values)]
  if len(train.values):
    body = train.values[len(train.values) // 50 :]
    shown.append(np.quantile(body, [0.002, 0.99]))
    latest.append(max(body[-20:]))
  shown = np.concatenate(shown)
  shown = shown[np.isfinite(shown)]
  low = min(shown, default=0.0)
  end = _TALLEST * low if low > 0 else np.inf
  high = max([*shown[shown <= end], *latest], default=1.0)
  room = 0.06 * (high - low or abs(high) or 1.0)
  return low - room, high + room


def _evaluation(axes, curve: Curve, color: str) -> None:
  axes.plot(curve.steps, curve.values, color=color, linewidth=1.6, marker="o", markersize=4)
  if curve.errors is None:
    return
  errors = np.nan_to_num(curve.errors)
  if len(curve.steps) > 1:
    band = (curve.values - errors, curve.values + errors)
    axes.fill_between(curve.steps, *band, color=color, alpha=0.22, linewidth=0)
  axes.vlines(curve.steps, curve.values - errors, curve.values + errors, color=color, linewidth=1.2)
