"""What the examples of any dataset look like: keys, shapes, ranges, and text where there is any."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np

from research.data import captions, pipeline
from research.data.splits import SPLITS

BATCHES = 50  # timed


def outline(
  dataset: pipeline.Dataset,
  *,
  rows: int,
  batch_size: int,
  seed: int,
  width: int,
  console,
) -> dict[str, Any]:
  """Prints the first `rows` examples that training would see, and returns the numbers beside them.

  Args:
    dataset: any; its tokens are read aloud where it prepares a vocabulary.
    rows, batch_size, seed, width, console: as of `preview`.

  Returns:
    examples per split and per second, the texts of the tokens, and the facts that were printed.
  """
  import rich.table
  import rich.text

  source = dataset.source("train")
  first = next(pipeline.batches(source, rows, seed=seed, threads=0))
  numbers: dict[str, Any] = {
    "splits": {split: len(dataset.source(split)) for split in SPLITS},
    "examples_per_second": _speed(source, batch_size, seed),
    "texts": [],
  }
  if "tokens" in first and hasattr(dataset, "prepare"):
    vocabulary = dataset.prepare().vocabulary
    present = first.get("segments", np.ones_like(first["tokens"])) > 0
    numbers["texts"] = [
      aloud(vocabulary, row[there]) for row, there in zip(first["tokens"], present)
    ]
  if "caption" in first and hasattr(dataset, "prepare"):
    numbers["texts"] = captions.texts(dataset.prepare().vocabulary, first)
  for text in numbers["texts"]:
    console.print(rich.text.Text(text if len(text) <= width else f"{text[:width]} ..."))
    console.rule()
  table = rich.table.Table("key", "of an example", "dtype", "least", "largest")
  for key, x in first.items():
    shape = " x ".join(map(str, x.shape[1:])) or "a number"
    table.add_row(key, shape, str(x.dtype), f"{x.min():g}", f"{x.max():g}")
  console.print(table)
  sizes = ", ".join(f"{size:,} in {split}" for split, size in numbers["splits"].items())
  numbers["facts"] = [f"{sizes}; {numbers['examples_per_second']:,.0f} examples per second"]
  numbers["facts"] += [note] if (note := getattr(source, "note", "")) else []
  for fact in numbers["facts"]:
    console.print(fact, highlight=False)
  return numbers


def aloud(vocabulary: Any, tokens: np.ndarray) -> str:
  """The text of tokens, those with a name by their name."""
  names = {i: name for name, i in vocabulary.special.items()}
  runs = itertools.groupby(map(int, tokens), key=lambda i: names.get(i, ""))
  return "".join(name * len(list(run)) if name else vocabulary.decode(run) for name, run in runs)


def _speed(source: pipeline.Source, batch_size: int, seed: int) -> float:
  """Examples per second of the pipeline alone, threads and all."""
  batches = pipeline.batches(source, batch_size, seed=seed)
  next(batches)
  start = time.perf_counter()
  for _ in itertools.islice(batches, BATCHES):
    pass
  return BATCHES * batch_size / (time.perf_counter() - start)
