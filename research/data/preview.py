"""What a dataset looks like: decoded rows with the borders of documents, sizes and speed."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np

from research.data import pipeline
from research.data.outline import outline
from research.data.splits import SPLITS
from research.data.text import Text

BORDER = "\u2502"  # between two segments of a row
BATCHES = 50  # timed
MASK = 16  # lines of the picture of a mask


def preview(
  dataset: Text | pipeline.Dataset,
  *,
  rows: int = 3,
  batch_size: int = 16,
  seed: int = 0,
  width: int = 400,
  console=None,
) -> dict[str, Any]:
  """Prints the first `rows` rows that training would see, and returns the numbers beside them.

  Args:
    dataset: a text dataset; it is prepared if it is not yet. Of another one there is an outline.
    rows: to show, from the batches of `seed`.
    batch_size: of the batches that are timed.
    width: characters to show of each row.
    console: a rich Console; None prints to the terminal.

  Returns:
    vocab_size, lossless, documents and bytes and tokens and rows per split, bytes_per_token,
    padding (share of a train epoch), tokens_per_second, duplicates, empty, changed, examples,
    masks.
  """
  import rich.console

  console = console or rich.console.Console()
  if not isinstance(dataset, Text):
    shown = {"rows": rows, "batch_size": batch_size, "seed": seed, "width": width}
    return outline(dataset, **shown, console=console)
  prepared = dataset.prepare()
  source = prepared.source("train")
  numbers: dict[str, Any] = {
    "vocab_size": prepared.vocabulary.vocab_size,
    "lossless": prepared.vocabulary.lossless,
    "length": dataset.length,
    "duplicates": prepared.cleaning.duplicates,
    "empty": prepared.cleaning.empty,
    "changed": prepared.cleaning.changed,
    "splits": {split: _split(prepared, split, dataset.length) for split in SPLITS},
  }
  train = numbers["splits"]["train"]
  numbers["bytes_per_token"] = train["bytes"] / train["tokens"]
  numbers["padding"] = 1 - train["tokens"] / (len(source) * dataset.length)
  numbers["tokens_per_second"] = _speed(source, batch_size, seed)
  first = next(pipeline.batches(source, rows, seed=seed, threads=0))
  numbers["examples"] = [_pieces(prepared.vocabulary, first, row) for row in range(rows)]
  numbers["masks"] = [picture(first["segments"][row]) for row in range(rows)]
  _print(numbers, dataset, width, console)
  return numbers


def _split(prepared, split: str, length: int) -> dict[str, int]:
  tokens, documents = len(prepared.tokens(split)), np.diff(prepared.documents(split))
  return {
    "documents": len(documents),
    "bytes": prepared.raw_bytes(split),
    "tokens": tokens,
    "rows": -(-tokens // length),
    "median_document": int(np.median(documents)) if len(documents) else 0,
    "longest_document": int(documents.max(initial=0)),
  }


def _speed(source: pipeline.Source, batch_size: int, seed: int) -> float:
  """Tokens per second of the pipeline alone, threads and all."""
  batches = pipeline.batches(source, batch_size, seed=seed)
  size = next(batches)["tokens"].size
  start = time.perf_counter()
  for _ in itertools.islice(batches, BATCHES):
    pass
  return BATCHES * size / (time.perf_counter() - start)


def _pieces(vocabulary, batch: pipeline.Batch, row: int) -> list[str]:
  """The text of each segment's targets in a row, in order."""
  segments, targets = batch["segments"][row], batch["targets"][row]
  return [vocabulary.decode(targets[segments == i]) for i in range(1, int(segments.max()) + 1)]


def picture(segments_L: np.ndarray, lines: int = MASK) -> str:
  """Which tokens (columns) each token (lines) of a row sees: `##` all, `::` some, `..` none.

  A token sees those before it in its own document; padding, segment 0, sees nothing.
  """
  lines = min(lines, len(segments_L))
  edges = np.linspace(0, len(segments_L), lines + 1).astype(int)[:-1]
  same_LL = (segments_L[:, None] == segments_L) & (segments_L > 0)
  seen_LL = np.tril(same_LL).astype(int)

  def blocks(x_LL):
    return np.add.reduceat(np.add.reduceat(x_LL, edges, axis=0), edges, axis=1)

  seen, whole = blocks(seen_LL), blocks(np.tril(np.ones_like(seen_LL)))
  marks = np.where(seen == 0, "..", np.where(seen == whole, "##", "::"))
  return "\n".join("".join(line[: i + 1]) for i, line in enumerate(marks))


def _print(numbers: dict[str, Any], dataset: Text, width: int, console) -> None:
  import rich.table
  import rich.text

  for pieces, mask in zip(numbers["examples"], numbers["masks"]):
    shown = rich.text.Text(f"{len(pieces)} segments, {dataset.length} tokens\n", style="dim")
    left = width
    for i, piece in enumerate(pieces):
      if left <= 0:
        break
      shown.append(BORDER if i else "", style="bold red")
      shown.append(piece[:left], style="not dim")
      left -= len(piece)
    shown.append("" if left >= 0 else " ...", style="dim")
    console.print(shown)
    console.print(rich.text.Text(f"\nwho sees whom:\n{mask}", style="dim"))
    console.rule()
  table = rich.table.Table("", *SPLITS)
  for name in numbers["splits"]["train"]:
    table.add_row(name, *(f"{numbers['splits'][split][name]:,}" for split in SPLITS))
  console.print(table)
  console.print(
    f"vocabulary {numbers['vocab_size']:,}, {numbers['bytes_per_token']:.2f} bytes per token, "
    f"{numbers['padding']:.2%} padding, {numbers['tokens_per_second']:,.0f} tokens per second"
  )
  console.print(
    f"dropped {numbers['duplicates']:,} duplicate and {numbers['empty']:,} empty documents; "
    f"cleaning changed {numbers['changed']:,}"
  )
  if not numbers["lossless"]:
    console.print("this vocabulary does not keep all of the text: bits per byte are approximate")
