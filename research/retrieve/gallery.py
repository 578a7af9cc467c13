"""What a run finds in its own held-out pictures, and where it errs, for its report.

`gallery.json` in the run's folder holds small pictures, captions, and who is nearest to whom.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from research import disk, record
from research.data import captions
from research.matching import Retrieval, encoded, ranks
from research.report import contact_sheet
from research.report.gallery import FILE
from research.retrieve.towers import Towers

PAIRS = 512  # that are searched
QUERIES, FOUND, WORST, SIDE = 6, 5, 8, 16  # captions, pictures for each; mistakes; of the matrix


def write(workdir: Path) -> Path | None:
  """Makes the file, of the newest checkpoint; None where the run evaluates no retrieval.

  Raises:
    UserError: there is no such run, or no checkpoint.
  """
  experiment, _ = record.open_run(workdir)
  asked = [x for x in experiment.evals.values() if isinstance(x, Retrieval)]
  if not asked:
    return None
  towers = Towers(workdir)
  source = towers.dataset.source(asked[0].split)
  found = encoded.pairs_of(towers.encoder, source, PAIRS, lambda: False)
  path = Path(workdir) / FILE
  disk.replace(path, json.dumps(gallery(towers, source, found)) + "\n")
  return path


def gallery(towers: Towers, source: Any, found: encoded.Pairs) -> dict[str, Any]:
  """What the file holds: pictures by their numbers, `pictures` has their thumbnails."""
  scores_TP = np.round(found.texts_TE @ found.images_PE.T, ranks.DIGITS)
  right_TP = np.zeros(scores_TP.shape, bool)
  right_TP[found.pairs[:, 1], found.pairs[:, 0]] = True
  T, P = scores_TP.shape
  texts = _texts(towers, source, found)
  queries = [
    {
      "text": texts[t],
      "found": [_seen(p, scores_TP[t, p], right_TP[t, p]) for p in _best(scores_TP[t], FOUND)],
    }
    for t in np.linspace(0, T - 1, min(QUERIES, T)).astype(int)
  ]
  # How much nearer the best of the wrong captions is than the best of a picture's own.
  wrong_TP = np.where(right_TP, -np.inf, scores_TP)
  margin_P = wrong_TP.max(axis=0) - np.where(right_TP, scores_TP, -np.inf).max(axis=0)
  mistakes = [
    {
      "picture": int(p),
      "margin": float(margin_P[p]),
      "own": texts[int(np.flatnonzero(right_TP[:, p])[0])],
      "said": texts[int(wrong_TP[:, p].argmax())],
    }
    for p in _best(margin_P, WORST)
    if 0 < margin_P[p] < np.inf
  ]
  _, firsts = np.unique(found.pairs[:, 0], return_index=True)
  some = found.pairs[firsts[:SIDE]]
  shown = {x["picture"] for query in queries for x in query["found"]}
  shown |= {mistake["picture"] for mistake in mistakes}
  return {
    "step": towers.step,
    "pictures_searched": P,
    "texts_searched": T,
    "queries": queries,
    "mistakes": mistakes,
    "matrix": np.round(scores_TP[np.ix_(some[:, 1], some[:, 0])].T, 3).tolist(),
    "pictures": {str(p): _thumbnail(source, int(found.first_image[p])) for p in sorted(shown)},
  }


def _texts(towers: Towers, source: Any, found: encoded.Pairs) -> list[str]:
  """The captions in words, as the model read them."""
  texts = []
  for first in range(0, len(found.first_text), encoded.ROWS):
    batch = source.take(found.first_text[first : first + encoded.ROWS], 0)
    texts += captions.texts(towers.words.vocabulary, batch)
  return texts


def _thumbnail(source: Any, number: int) -> str:
  return contact_sheet.thumbnail(source.take(np.array([number]), 0)["image"][0])


def _best(scores: np.ndarray, count: int) -> list[int]:
  return np.argsort(-scores, kind="stable")[:count].tolist()


def _seen(picture: int, score: float, right: bool) -> dict[str, Any]:
  return {"picture": picture, "score": round(float(score), 3), "right": bool(right)}
