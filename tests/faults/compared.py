"""Two states of a run, or two runs, compared to the last bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What depends on the machine's mood, and what tells of a stretch.
TIMES = {"time", "tokens_per_second", "peak_share", "data_wait_share"}
OF_A_STRETCH = {"timing"}


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
  """The names of the arrays that are not the same bits, or stand on one side alone."""
  return {
    name
    for name in {*before, *after}
    if name not in before or name not in after or not _same(before[name], after[name])
  }


def _same(a: Any, b: Any) -> bool:
  import numpy as np

  a, b = np.asarray(a), np.asarray(b)
  return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def told(workdir: Path) -> list[dict[str, Any]]:
  """The lines of the journal, in order, without times."""
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
  return [
    {name: value for name, value in line.items() if name not in TIMES}
    for line in lines
    if line["split"] not in OF_A_STRETCH
  ]
