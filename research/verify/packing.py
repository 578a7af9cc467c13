"""A document reads the same alone, padded, or packed beside others; rows may stand in any order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from research.verify.rows import EQUAL, DoesNotApply, Row, furthest, within
from research.verify.sight import check_next_token, predictions
from research.verify.subject import Subject


def packing(subject: Subject) -> Iterator[Row]:
  """The predictions for a document depend neither on its place in a row nor on its neighbours."""
  check_next_token(subject.rows)
  if not {"segments", "positions"} <= set(subject.rows):
    raise DoesNotApply("a batch has no 'segments' and 'positions': nothing is packed")
  run = predictions(subject)
  documents = _documents(subject.rows)
  read = {
    how: _read(run, subject, rows)
    for how, rows in {
      "alone": [[name] for name in documents],
      "beside others": [[a, b] for a, b in zip(documents, list(documents)[1:])],
      "after others": [[b, a] for a, b in zip(documents, list(documents)[1:])],
    }.items()
  }
  for how in ("beside others", "after others"):
    alone = {name: read["alone"][name] for name in read[how]}
    far, name = furthest(read[how], alone)
    note = f"document {name} of {len(documents[name]['tokens'])} tokens is read differently {how}"
    yield within(how, far, EQUAL, note)


def permutation(subject: Subject) -> Iterator[Row]:
  """The order of the rows of a batch changes neither the loss nor the gradient nor the update."""
  order = np.random.RandomState(0).permutation(subject.plain.batch_size)
  mixed = subject.step(rows={name: x[order] for name, x in subject.rows.items()})
  far, note = mixed.apart(subject.base)
  yield within("rows shuffled", far, EQUAL, f"shuffled and in order: {note}")


def _documents(rows: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
  """The first part of some rows as documents by name; two of them fit into a row."""
  L = rows["tokens"].shape[1]
  keys = [name for name, x in rows.items() if x.shape[1:2] == (L,)]
  whole = [b for b, row in enumerate(rows["segments"]) if (row[: L // 2] > 0).all()]
  documents = {}
  for i, b in enumerate(whole[:5]):
    length = max(2, L // 2 - 3 * i % (L // 2))
    document = {name: rows[name][b, :length] for name in keys}
    document["positions"] = np.arange(length)
    documents[f"{b}"] = document
  if len(documents) < 2:
    raise DoesNotApply("no two documents fit into a row")
  return documents


def _read(run, subject: Subject, arrangement: list[list[str]]) -> dict[str, np.ndarray]:
  """What is predicted for each document when the rows hold those of `arrangement`."""
  documents = _documents(subject.rows)
  batch = {name: np.zeros_like(x) for name, x in subject.rows.items()}
  places = {}
  for b, row in enumerate(arrangement):
    start = 0
    for number, name in enumerate(row, start=1):
      document = documents[name]
      stop = start + len(document["tokens"])
      for key, x in document.items():
        batch[key][b, start:stop] = x
      batch["segments"][b, start:stop] = number
      places[name] = (b, start, stop)  # the last one counts: it is the farthest from the left
      start = stop
  values = run(subject.params, batch)
  return {
    name: np.concatenate([np.asarray(y[b, start:stop], np.float32).reshape(-1) for y in values])
    for name, (b, start, stop) in places.items()
  }
