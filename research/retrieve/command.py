"""`research embed`, `search` and `classify`: pictures and texts by the model of a run."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from research import disk
from research.data import reading
from research.errors import UserError
from research.matching.zero_shot import PLACE, check_names, check_templates, class_vectors
from research.predict.written import Output
from research.report import contact_sheet
from research.retrieve import index
from research.retrieve.towers import Towers

TOLD = 5  # pictures that cannot be read, one by one
DIGITS = 6


def embed(options: argparse.Namespace) -> int:
  """Writes the vectors of pictures, or of the lines of a file, into an .npz file.

  Raises:
    UserError: options that do not go together, no run, nothing to encode.
  """
  if (options.images is None) == (options.texts is None):
    raise UserError("give --images FOLDER, or --texts FILE with a text in each line.")
  if options.output.suffix != ".npz":
    raise UserError(f"--output {options.output}: vectors are written to .npz; name it so.")
  towers = Towers(options.workdir, options.step)
  if options.images is not None:
    found = _index(towers, options.images)
    names, vectors_NE = found.names, found.vectors_NE
  else:
    names = [x for x in reading.text(options.texts).split("\n") if x.strip()]
    if not names:
      raise UserError(f"{options.texts} holds no text; write one in each line.")
    vectors_NE = towers.encoder.texts(*towers.words.rows(names))
  written = io.BytesIO()
  np.savez(written, names=np.array(names), vectors=vectors_NE)
  try:
    options.output.parent.mkdir(parents=True, exist_ok=True)
    disk.replace(options.output, written.getvalue())
  except OSError as error:
    raise UserError(f"--output {options.output} cannot be written ({error.strerror}).") from None
  print(f"{len(names):,} vectors of {vectors_NE.shape[1]} numbers in {options.output}")
  return 0


def search(options: argparse.Namespace) -> int:
  """Prints the pictures that are nearest to a text, and shows them on a page.

  Raises:
    UserError: no run, no pictures, no words.
  """
  if not options.query.strip():
    raise UserError("the query is empty; say in words what the pictures should show.")
  towers = Towers(options.workdir, options.step)
  found = _index(towers, options.images)
  query_E = class_vectors(towers.encoder, towers.words, [options.query], [PLACE])[0]
  scores_N = found.vectors_NE @ query_E
  best = np.argsort(-scores_N, kind="stable")[: options.top]
  for i in best:
    print(f"{scores_N[i]:.3f}  {found.names[i]}")
  path = options.output or towers.workdir / "search.html"
  fact = (
    f"the {len(best)} nearest of {len(found.names):,} pictures in {options.images}, by "
    f"{towers.workdir} at step {towers.step}; their cosines"
  )
  cells = [
    (contact_sheet.thumbnail(found.home / found.names[i]), found.names[i], f"{scores_N[i]:.3f}")
    for i in best
  ]
  contact_sheet.write(path, options.query, [fact], [("", cells)])
  print(f"page: {path}")
  return 0


def classify(options: argparse.Namespace) -> int:
  """Says of each picture which of some labels is nearest, and how sure the model is.

  Raises:
    UserError: no run, no pictures, labels or templates of no use, a model without a temperature.
  """
  labels = [label.strip() for label in options.labels.split(",") if label.strip()]
  check_names(labels, "--labels")
  templates = options.template or ["a photo of a {}."]
  check_templates(templates)
  towers = Towers(options.workdir, options.step)
  if not hasattr(model := towers.experiment.model, "scale"):
    raise UserError(
      f"{towers.workdir} has a {type(model).__name__}, without a temperature to make probabilities "
      "with; use research search, or a models.CLIP."
    )
  found = _index(towers, options.images)
  classes_CE = class_vectors(towers.encoder, towers.words, labels, templates)
  logits_NC = towers.scale * (found.vectors_NE @ classes_CE.T)
  shares_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
  shares_NC /= shares_NC.sum(axis=1, keepdims=True)
  results = [_result(name, labels, row) for name, row in zip(found.names, shares_NC)]
  if options.output is None:
    for result in results:
      print(f"{result['label']}  {result['probability']:.3f}  {result['picture']}")
    return 0
  about = {"run": str(towers.workdir.resolve()), "step": towers.step, "labels": labels}
  about |= {"images": str(options.images.resolve()), "templates": templates}
  output = Output(options.output, about, ("picture", "label", "probability"))
  output.add(results[output.done :])
  output.finish()
  print(f"{output.done:,} results in {options.output}")
  return 0


def _result(name: str, labels: Sequence[str], shares: np.ndarray) -> dict[str, object]:
  each = {label: round(float(share), DIGITS) for label, share in zip(labels, shares)}
  label = labels[int(shares.argmax())]
  return {"picture": name, "label": label, "probability": each[label], "probabilities": each}


def _index(towers: Towers, folder: Path) -> index.Index:
  """The pictures of a folder; those that cannot be read are told."""
  found = index.of_folder(towers, folder)
  for name, why in list(found.broken.items())[:TOLD]:
    print(f"left out: {name} cannot be read ({why})", file=sys.stderr)
  if len(found.broken) > TOLD:
    print(f"left out: {len(found.broken):,} pictures in all", file=sys.stderr)
  return found
