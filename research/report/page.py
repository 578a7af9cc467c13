"""The page of a report: its typography, and small pieces of HTML. All text is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

# Nothing may be fetched or run, whatever a model wrote into its samples; pictures are in the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_CSS = """
:root {
  color-scheme: light dark;
  --paper: #fcfbf8; --ink: #22252a; --muted: #6a6e76; --rule: #e5e2da; --wash: #f4f2ec;
  --train: #2a6f97; --heldout: #c05621; --other: #5b7f3a; --fourth: #7b5aa6; --fifth: #2f8f83;
  --sixth: #a17c00; --seventh: #b5476b; --eighth: #7a6652;
  --serif: Charter, "Bitstream Charter", "Iowan Old Style", "Sitka Text", Cambria, Georgia, serif;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16181b; --ink: #e4e2dc; --muted: #9a9da3; --rule: #2d3035; --wash: #1d2023;
    --train: #74b3d8; --heldout: #eb9a5f; --other: #a3c585; --fourth: #b79be0; --fifth: #6cc4b7;
    --sixth: #d9b84a; --seventh: #e58aa6; --eighth: #bfa88f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 57rem; padding: 4rem 1.5rem 6rem; background: var(--paper);
  color: var(--ink); font: 1.0625rem/1.6 var(--serif); text-rendering: optimizeLegibility;
}
h1 { margin: 0; font-size: 2.1rem; line-height: 1.2; font-weight: 600; overflow-wrap: anywhere; }
h2 { margin: 3.5rem 0 1rem; font-size: 1.3rem; font-weight: 600; }
h3 { margin: 1.6rem 0 .4rem; font: 600 .8rem var(--sans); color: var(--muted); }
p { margin: .6rem 0; max-width: 42rem; }
.status, .note, figcaption, summary { font: .85rem/1.5 var(--sans); color: var(--muted); }
.lead { margin-top: 1.4rem; font-size: 1.25rem; line-height: 1.5; }
figure { margin: 0; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg * { stroke-linejoin: round; }
svg text { font-family: var(--sans); font-variant-numeric: tabular-nums; }
.narrow { display: none; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 1.5rem; }
.panels figcaption { display: flex; justify-content: space-between; margin-bottom: .2rem; }
.panels figcaption b { color: var(--ink); font-weight: 500; }
.beside pre { max-height: 22rem; overflow-y: auto; margin-top: 0; }
.choice > input { position: absolute; opacity: 0; }
.choice > label {
  display: inline-block; padding: .15rem 0; margin: 0 1.4rem .8rem 0; cursor: pointer;
  font: .85rem var(--sans); color: var(--muted); border-bottom: 2px solid transparent;
}
.choice > input:checked + label { color: var(--ink); border-color: var(--train); }
.choice > input:focus-visible + label { outline: 2px solid var(--train); outline-offset: 3px; }
.choice > figure { display: none; }
#unit-0:checked ~ .unit-0, #unit-1:checked ~ .unit-1 { display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font: .9rem/1.5 var(--sans); }
th, td { padding: .42rem 0 .42rem 1.4rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--rule); font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { font-weight: 500; font-size: .8rem; color: var(--muted); }
tr.strong td { font-weight: 600; }
tr.strong td:first-child { color: var(--heldout); }
tr.best td:first-child::after { content: "best baseline"; margin-left: .6rem; color: var(--muted);
  font-size: .75rem; }
tr.yes td:nth-child(2) { color: var(--other); font-weight: 600; }
tr.no td:nth-child(2) { color: var(--heldout); font-weight: 600; }
tr.open td:nth-child(2) { color: var(--muted); }
td span { color: var(--muted); font-weight: 400; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr));
  gap: 1.2rem 1.5rem; margin: 0; }
.facts dt { font: .8rem var(--sans); color: var(--muted); }
.facts dd { margin: 0; font: 1.05rem/1.4 var(--sans); font-variant-numeric: tabular-nums; }
.fields { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .3rem 1.5rem;
  margin: 0; font: .85rem/1.55 var(--mono); }
.fields dt { color: var(--muted); overflow-wrap: anywhere; }
.fields dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; }
pre { margin: .6rem 0 1rem; padding: 1rem 1.2rem; background: var(--wash); border-radius: 4px;
  font: .85rem/1.6 var(--mono); white-space: pre-wrap; overflow-wrap: anywhere; }
pre mark { background: none; color: var(--heldout); font-weight: 600; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr));
  gap: 1rem; margin: .6rem 0 1.2rem; }
.pictures img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain;
  background: var(--wash); border-radius: 4px; }
.pictures figcaption { font-size: .75rem; line-height: 1.4; overflow-wrap: anywhere; }
.pictures figcaption b { color: var(--ink); font-weight: 500; }
.pictures .right img { outline: 2px solid var(--other); outline-offset: 2px; }
.matrix { max-width: 30rem; }
.matrix rect { fill: var(--train); }
details { border-bottom: 1px solid var(--rule); }
summary { padding: .5rem 0; cursor: pointer; }
@media (max-width: 44rem) {
  body { padding: 2rem 1.1rem 4rem; }
  h1 { font-size: 1.6rem; }
  .lead { font-size: 1.1rem; }
  .wide { display: none; }
  .narrow { display: block; }
  th, td { padding-left: .8rem; white-space: normal; }
  table { font-size: .82rem; }
  td span, tr.best td:first-child::after { display: none; }
  .panels svg { max-width: 22rem; }
  .fields { grid-template-columns: 1fr; gap: 0; }
  .fields dd { margin-bottom: .5rem; }
}
@media print { body { max-width: none; padding: 0; } }
"""


def page(title: str, body: Iterable[str]) -> str:
  """The whole document; `body` is HTML."""
  return "\n".join(
    [
      "<!doctype html>",
      '<html lang="en">',
      '<meta charset="utf-8">',
      f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
      '<meta name="viewport" content="width=device-width, initial-scale=1">',
      f"<title>{text(title)}</title>",
      f"<style>{_CSS}</style>",
      *body,
      "</html>\n",
    ]
  )


def text(value: object) -> str:
  """Escaped; what no page can show becomes a sign for it, for models write any byte."""
  shown = "".join(
    chr(0x2400 + ord(c)) if ord(c) < 32 and c not in "\n\t" else "␡" if c == "\x7f" else c
    for c in str(value).replace("\r\n", "\n")
  )
  return html.escape(shown.encode("utf-8", "replace").decode("utf-8"))


def paragraph(value: str, kind: str = "") -> str:
  """`value` is HTML."""
  return f'<p class="{kind}">{value}</p>' if kind else f"<p>{value}</p>"


def figure(wide: str, narrow: str, kind: str = "") -> str:
  """One plot in two shapes, for desks and for hands."""
  shapes = f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>'
  return f'<figure class="{kind}">{shapes}</figure>'


def choice(names: Sequence[str], figures: Sequence[str]) -> str:
  """Figures of class unit-0, unit-1, of which the reader sees the one chosen; no script."""
  if len(names) == 1:
    return figures[0]
  inputs = [
    f'<input type="radio" name="unit" id="unit-{i}"{" checked" if i == 0 else ""}>'
    f'<label for="unit-{i}">{text(name)}</label>'
    for i, name in enumerate(names)
  ]
  return f'<div class="choice">{"".join(inputs)}{"".join(figures)}</div>'


def panels(parts: Iterable[tuple[str, str, str]]) -> str:
  """Small plots: name, newest value, SVG."""
  cells = [
    f"<figure><figcaption><span>{text(name)}</span><b>{text(value)}</b></figcaption>{svg}</figure>"
    for name, value, svg in parts
  ]
  return f'<div class="panels">{"".join(cells)}</div>'


def beside(parts: Iterable[tuple[str, str]]) -> str:
  """Names with HTML below each, side by side as far as there is room."""
  cells = [f"<figure><figcaption>{text(name)}</figcaption>{body}</figure>" for name, body in parts]
  return f'<div class="panels beside">{"".join(cells)}</div>'


def table(header: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
  """Rows are a class and cells of plain text; what follows a ± in a cell is set quietly."""
  head = "".join(f"<th>{text(cell)}</th>" for cell in header)
  lines = [f'<tr class="{kind}">' + "".join(map(_cell, cells)) + "</tr>" for kind, cells in rows]
  return f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _cell(value: str) -> str:
  number, sign, error = value.partition(" ± ")
  quiet = f"<span> ± {text(error)}</span>" if sign else ""
  return f"<td>{text(number)}{quiet}</td>"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
  """Numbers with a word above each."""
  cells = [f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in pairs]
  return f'<dl class="facts">{"".join(cells)}</dl>'


def fields(pairs: Iterable[tuple[str, str]]) -> str:
  """Names and values of a description."""
  cells = [f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs]
  return f'<dl class="fields">{"".join(cells)}</dl>'


def sample(prompt: str, written: str) -> str:
  """What was asked, marked, and what the model wrote."""
  asked = f"<mark>{text(prompt)}</mark>" if prompt else ""
  # A line break right after <pre> would be swallowed.
  return f'<pre dir="auto">\n{asked}{text(written)}</pre>'


def pictures(cells: Iterable[tuple[str, str, str]], right: Sequence[bool] = ()) -> str:
  """Pictures in rows: a data URL, or nothing where there is none, a name and what is said of it.

  Those of which `right` says so are framed.
  """
  shown = []
  for i, (source, name, said) in enumerate(cells):
    if source and not source.startswith("data:image/"):
      raise ValueError(f"a picture comes from outside of the page: {source[:40]}")
    image = f'<img src="{text(source)}" alt="{text(name)}">' if source else "<img alt>"
    kind = ' class="right"' if i < len(right) and right[i] else ""
    caption = f"<figcaption><b>{text(said)}</b> {text(name)}</figcaption>"
    shown.append(f"<figure{kind}>{image}{caption}</figure>")
  return f'<div class="pictures">{"".join(shown)}</div>'


def matrix(rows: Sequence[Sequence[float]]) -> str:
  """Numbers as squares, from the least, which is empty, to the largest."""
  values = [value for row in rows for value in row]
  low, high = min(values), max(values)
  squares = [
    f'<rect x="{x}" y="{y}" width=".94" height=".94" '
    f'fill-opacity="{(value - low) / ((high - low) or 1):.2f}"><title>{value:.3f}</title></rect>'
    for y, row in enumerate(rows)
    for x, value in enumerate(row)
  ]
  box = f"0 0 {max(map(len, rows))} {len(rows)}"
  return f'<figure class="matrix"><svg viewBox="{box}">{"".join(squares)}</svg></figure>'


def details(summary: str, body: str) -> str:
  """Folded away until asked for; `body` is HTML."""
  return f"<details><summary>{text(summary)}</summary>{body}</details>"
