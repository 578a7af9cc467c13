"""However a batch is come by or cut: data order, microbatches, the batch size of evaluations."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from research import evaluate, fit, metrics
from research.data import pipeline
from research.verify.rows import DOES_NOT_APPLY, EQUAL, DoesNotApply, Row, furthest, within
from research.verify.subject import Subject, uneven

EXAMPLES = 10  # of an evaluation; no batch size below divides it but one


def data(subject: Subject) -> Iterator[Row]:
  """A batch is a function of (seed, step): opened again, started late, or read in parts."""
  experiment, steps = subject.experiment, 4
  size = experiment.batch_size if experiment.optimizer is not None else 16

  def read(start=0, rows=None, threads=0):
    source = experiment.data.source("train")
    stream = pipeline.batches(
      source, size, seed=experiment.seed, start=start, rows=rows, threads=threads
    )
    return list(itertools.islice(stream, steps - start))

  first = read()
  halves = [read(rows=np.arange(size)[i::2]) for i in range(2)]
  joined = [
    {name: np.stack([a[name], b[name]], 1).reshape(x.shape) for name, x in batch.items()}
    for batch, a, b in zip(first, *halves, strict=True)
  ]
  for part, again, since in (
    ("opened again", read(), 0),
    ("started at step 2", read(start=2), 2),
    ("read by threads", read(threads=2), 0),
    ("read by halves", joined, 0),
  ):
    far = [furthest(_float(a), _float(b)) for a, b in zip(again, first[since:], strict=True)]
    step = max(range(len(far)), key=lambda i: far[i][0])
    note = f"{far[step][1]!r} of batch {since + step} differs"
    yield within(part, far[step][0], 0.0, note)


def determinism(subject: Subject) -> Iterator[Row]:
  """The same batch and step twice give the same bits, also by a program that is made anew."""
  if subject.experiment.optimizer is None:
    prepared = subject.experiment.data.prepare()
    scores = [
      metrics.means(fit.score(fit.fitted(subject.experiment.model, prepared), prepared, "train"))
      for _ in range(2)
    ]
    far, name = furthest(*({name: np.asarray(x) for name, x in score.items()} for score in scores))
    yield within("fitted twice", far, 0.0, f"{name} came out differently")
    return
  far, note = subject.step().apart(subject.base)
  yield within("a step twice", far, 0.0, f"twice the same: {note}")
  # What NumPy or a clock said while a program was traced is a constant of it.
  far, note = subject.step(subject.plain).apart(subject.base)
  yield within("by a program made anew", far, 0.0, f"traced twice: {note}")


def microbatches(subject: Subject) -> Iterator[Row]:
  """A batch in pieces has the loss, the gradient and the update of the whole batch."""
  cut = subject.step(dataclasses.replace(subject.plain, microbatches=2))
  far, note = cut.apart(subject.base)
  yield within("in two", far, EQUAL, f"in two pieces and whole: {note}")


def evaluation(subject: Subject) -> Iterator[Row]:
  """An evaluation does not depend on the size of its batches."""
  if not subject.plain.evals:
    raise DoesNotApply("the experiment has no evaluations")
  for name, item in subject.plain.evals.items():
    if name not in subject.program.measures:
      note = "it reads its split by itself, and not in batches of a size that is given"
      yield Row(name, verdict=DOES_NOT_APPLY, note=note)
      continue
    if getattr(item.objective, "cut", None):
      note = "it compares the examples of a batch, so that its size is part of the question"
      yield Row(name, verdict=DOES_NOT_APPLY, note=note)
      continue
    source = Uneven(subject.plain.data.source(item.split), EXAMPLES)
    means = {
      size: {
        key: np.asarray(value)
        for key, value in metrics.means(
          evaluate.total(
            subject.program.measures[name],
            subject.params,
            source,
            size,
            place=subject.program.place,
          )
        ).items()
      }
      for size in (EXAMPLES, 4, 1)
    }
    for size in (4, 1):
      far, key = furthest(means[size], means[EXAMPLES])
      note = f"{key} is {means[size].get(key)}, in a batch of all {means[EXAMPLES].get(key)}"
      yield within(f"{name} by {size}", far, EQUAL, note)


@dataclasses.dataclass(frozen=True)
class Uneven:
  """The first `count` examples of a source, with padding of many lengths."""

  source: Any
  count: int

  def __len__(self) -> int:
    return min(self.count, len(self.source))

  def take(self, indices: np.ndarray, epoch: int) -> Mapping[str, np.ndarray]:
    parts = [uneven(self.source.take(np.asarray([i]), epoch), first=int(i)) for i in indices]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _float(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  return {name: np.asarray(x, np.float64) for name, x in batch.items()}
