"""The verdicts as JSON, for whoever collects them."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from research import disk
from research.reproduce.judged import Study

FILE = "verdicts.json"


def write(study: Study, workdir: Path) -> Path:
  """Writes `workdir`/verdicts.json: every claim with its verdict and the runs that it rests on."""
  told = {
    "title": study.title,
    "command": study.command,
    "claims": [
      {
        **{
          name: getattr(judgement.claim, name)
          for name in ("name", "paper", "where", "sentence", "metric", "seeds", "lower")
        },
        "arms": judgement.claim.arms(),
        "verdict": dataclasses.asdict(judgement.verdict),
      }
      for judgement in study.judgements
    ],
    "outcomes": {
      arm: {str(seed): dataclasses.asdict(outcome) for seed, outcome in seeds.items()}
      for arm, seeds in study.results.outcomes.items()
    },
  }
  path = workdir / FILE
  disk.replace(path, json.dumps(_plain(told), indent=1, ensure_ascii=False) + "\n")
  return path


def _plain(value: Any) -> Any:
  """JSON has no NaN: what is not finite is null."""
  if isinstance(value, dict):
    return {key: _plain(part) for key, part in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(part) for part in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value
