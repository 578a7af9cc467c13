"""The section of a report on what was said of a run in training (see `research.health`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from research import health
from research.report import page

SHOWN = 20  # lines


def sections(workdir: Path) -> list[tuple[str, str]]:
  """(title, HTML), none where nothing was said."""
  found = health.read(workdir)
  if not found:
    return []
  body = "".join(page.paragraph(_line(line)) for line in found[-SHOWN:])
  if len(found) > SHOWN:
    body += page.paragraph(f"The {len(found) - SHOWN} before are in {health.FILE}.", "note")
  return [("What was noticed in training", body)]


def _line(line: dict[str, Any]) -> str:
  step = f"<b>step {page.text(line['step'])}</b> " if "step" in line else ""
  return step + page.text(line["text"])
