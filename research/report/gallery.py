"""The sections of a report on pictures and texts: what finds what, the worst mistakes, the scores.

They are made of `gallery.json`, which `research run` writes for experiments with a `Retrieval`; of
what is missing or broken in it, nothing is shown.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from research.diagnosis import diagnoses
from research.report import page
from research.report.run import Run

FILE = "gallery.json"


def sections(workdir: Path) -> list[tuple[str, str]]:
  """(title, HTML), none where there is no gallery."""
  try:
    found = json.loads((workdir / FILE).read_text(encoding="utf-8"))
    return [
      ("What words find", _queries(found)),
      ("Its worst mistakes", _mistakes(found)),
      ("Pictures beside captions", _matrix(found)),
    ]
  except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
    return []


def health(run: Run) -> str:
  """What the newest evaluations say is wrong."""
  newest = [found[-1] for found in run.evaluations.values() if found]
  told = [sentence for line in newest for sentence in diagnoses(line)]
  return "".join(page.paragraph(page.text(sentence)) for sentence in told)


def _queries(found: dict[str, Any]) -> str:
  parts = []
  for query in found["queries"]:
    cells = [
      (found["pictures"][str(x["picture"])], "", f"{x['score']:.3f}") for x in query["found"]
    ]
    right = [bool(x["right"]) for x in query["found"]]
    parts.append(f"<h3>{page.text(query['text'])}</h3>{page.pictures(cells, right)}")
  note = (
    f"The nearest of {found['pictures_searched']:,} held-out pictures at step {found['step']}, "
    "with their cosines; those that the caption is of are framed."
  )
  return page.paragraph(page.text(note), "note") + "".join(parts)


def _mistakes(found: dict[str, Any]) -> str:
  if not found["mistakes"]:
    return page.paragraph("Every picture is nearer to its own caption than to any other.", "note")
  cells = [
    (found["pictures"][str(x["picture"])], f"is: {x['own']}", f"taken for: {x['said']}")
    for x in found["mistakes"]
  ]
  note = "The pictures whose own captions lie furthest behind another one."
  return page.paragraph(note, "note") + page.pictures(cells)


def _matrix(found: dict[str, Any]) -> str:
  rows = [[float(value) for value in row] for row in found["matrix"]]
  note = "Cosines of the first held-out pictures (rows) with their captions (columns)."
  return page.matrix(rows) + page.paragraph(note, "note")
