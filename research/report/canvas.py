"""What the plots of a page are drawn on: SVG inside of it, which takes its colours from it.

Colours are drawn as stand-ins and then replaced by the page's CSS variables, so that one drawing
reads on light and on dark paper.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

# Stand-in -> CSS variable. No drawing would use these blacks by itself.
PAINT = {
  "ink": "#010203",
  "muted": "#010204",
  "rule": "#010205",
  "train": "#010206",
  "heldout": "#010207",
  "other": "#010208",
  "fourth": "#010209",
  "fifth": "#01020a",
  "sixth": "#01020b",
  "seventh": "#01020c",
  "eighth": "#01020d",
}
SEVERAL = ("train", "heldout", "other", "fourth", "fifth", "sixth", "seventh", "eighth")


@contextlib.contextmanager
def figure(size: tuple[int, int]) -> Iterator[tuple[Any, Any]]:
  """A figure of `size` pixels with the page's manners: no box, hairlines, quiet ticks."""
  # matplotlib takes half a second to import: only a report pays for it.
  import matplotlib
  from matplotlib.backends.backend_svg import FigureCanvasSVG
  from matplotlib.figure import Figure
  from matplotlib.ticker import FuncFormatter

  manners = {"svg.fonttype": "none", "font.size": 11, "font.family": "DejaVu Sans"}
  with matplotlib.rc_context(manners), warnings.catch_warnings():
    # The browser may have the letters that matplotlib's font lacks.
    warnings.simplefilter("ignore")
    figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72)
    FigureCanvasSVG(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    for side in ("top", "right", "left"):
      axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(PAINT["rule"])
    axes.grid(axis="y", color=PAINT["rule"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=PAINT["muted"], pad=6)
    for axis in (axes.xaxis, axes.yaxis):
      axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    yield figure, axes


def tick(value: float) -> str:
  """1500 -> 1.5k, 0.0003 -> 3e-4: as short as an axis wants it."""
  for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
    if abs(value) >= size:
      return f"{value / size:.4g}{letter}"
  if 0 < abs(value) < 1e-2:
    digits, power = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(power)}"
  return f"{value:.4g}"


def place(figure, axes, size, *, right: float, left: float = 38, bottom: float = 28) -> None:
  """Puts the axes where they leave room, in pixels, for what stands around them."""
  width, height = size
  top = 16
  axes.set_position(
    (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
  )


def svg(figure, key: str) -> str:
  """The drawing as an element of a page; `key` is a word for the ids inside, unique there."""
  buffer = io.StringIO()
  figure.savefig(buffer, format="svg", metadata={"Date": None})
  text = buffer.getvalue()
  text = text[text.index("<svg") :]
  text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
  text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
  # In HTML an svg element needs no namespaces; without a size of its own it fills its place.
  head, body = text.split(">", 1)
  head = re.sub(r'\s(xmlns(:\w+)?|width|height)="[^"]*"', "", head)
  text = f"{head}>{body}"
  text = text.replace("xlink:href", "href").replace("font-family: 'DejaVu Sans'; ", "")
  text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would reach the whole page
  # Several drawings share the page: ids get the drawing's word.
  text = re.sub(r'\bid="', f'id="{key}-', text)
  text = text.replace('href="#', f'href="#{key}-').replace("url(#", f"url(#{key}-")
  for name, stand_in in PAINT.items():
    text = text.replace(stand_in, f"var(--{name})")
  return text.replace("<svg", '<svg role="img"', 1).strip()


def side_labels(axes, labels, texts, limits, height) -> None:
  """Names at the right end of what they name, pushed apart where they would overlap."""
  low, high = limits
  apart = 14.5 / (height - 44) * (high - low)
  wanted = [min(max(value, low), high) for _, value, _ in labels]
  transform = axes.get_yaxis_transform()
  for i, at in enumerate(spread(wanted, apart, high)):
    color = PAINT[labels[i][2]]
    axes.plot(
      [1.0, 1.015],
      [wanted[i], at],
      color=color,
      linewidth=0.8,
      transform=transform,
      clip_on=False,
    )
    axes.text(1.022, at, texts[i], color=color, transform=transform, va="center", parse_math=False)


def spread(wanted: Sequence[float], apart: float, high: float) -> list[float]:
  """Places near the `wanted` ones, which ascend: `apart` from one another and up to `high`."""
  places = list(wanted)
  for i in range(1, len(places)):
    places[i] = max(places[i], places[i - 1] + apart)
  for i in reversed(range(len(places))):
    above = places[i + 1] - apart if i + 1 < len(places) else high
    places[i] = min(places[i], above)
  return places


def clip(name: str) -> str:
  """A name as short as a plot wants it."""
  return name if len(name) <= 18 else name[:17] + "…"
