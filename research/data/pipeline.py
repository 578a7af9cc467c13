"""From a source of examples to batches whose order is arithmetic: a function of (seed, step).

The keys of a batch, once and for all. Every value is a NumPy array with B rows first:

  tokens     (B, L) int32  inputs
  targets    (B, L) int32  the token that follows each input
  segments   (B, L) int32  number of the document inside its row, from 1; 0 is padding: no loss,
                           no attention
  positions  (B, L) int32  position inside the document's piece; starts again with each segment
  bytes      (B, L) int32  bytes of raw text that the target stands for, 0 for end-of-text, so
                           that bits per byte are bits per byte of the raw text

  places     (B, T) int32  of a pair of segments (1 and 2 in `segments`): which tokens are
                           predicted; 0, where a mark stands, is none
  targets    (B, T) int32  in a pair: what stood at the places
  random     (B,) int32    in a pair: 1 where the second segment does not follow the first

  source            (B, M) int32  of a source with a target: its tokens, end-of-text behind them;
                                  the keys above are then those of the target
  source_segments   (B, M) int32  number of the pair inside its row, as `segments` of the target
  source_positions  (B, M) int32  position inside the source

  label   (B,) int32    of a text, a pair of texts or a picture: its number; padding has none
  words   (B, L) int32  of a sentence: 1 + the number of the word that begins here, or 0
  tags    (B, L) int32  where a word begins: 0 outside, 2t - 1 begins an entity of type t = 1, 2,
                        ..., 2t goes on with it
  first   (B,) int32    of a question and a text: the place of the answer's first token; 0 for none
  last    (B,) int32    the place of its last token

  image        (B, Y, X, C) uint8  a picture, normalized by the model
  picture      (B,) int32          its number; several captions of one picture have the same
  caption      (B, L) int32        tokens of its caption, end-of-text, zeros
  caption_end  (B,) int32          the place of end-of-text

A source without `segments` (pictures, labels) gives `weights` (B,) float32 instead: 1 for an
example, 0 for padding. Padding is zeros in every key, whatever the source.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from research.errors import UserError

Batch = dict[str, np.ndarray]

THREADS = 2  # reading is a memory-mapped gather: two threads keep any device busy
AHEAD = 8  # batches ready before they are asked for


class Source(Protocol):
  """Examples addressed by number. One may have a `note`, a line that its user should read."""

  def __len__(self) -> int:
    """How many examples an epoch has; the same in every epoch."""

  def take(self, indices: np.ndarray, epoch: int) -> Batch:
    """Reads the examples `indices` (B,) as they are cut in `epoch`, all at once."""


class Dataset(Protocol):
  """What an experiment names: a frozen value that opens nothing when constructed."""

  def source(self, split: str) -> Source:
    """The examples of "train" or "heldout"."""


def batches(
  source: Source,
  batch_size: int,
  *,
  seed: int,
  start: int = 0,
  shuffle: bool = True,
  rows: np.ndarray | None = None,
  threads: int = THREADS,
  ahead: int = AHEAD,
) -> Iterator[Batch]:
  """Endless batches from step `start` on; batch number `step` depends on nothing but (seed, step).

  Args:
    source: the examples.
    batch_size: of the global batch, over all processes.
    seed: of the order of the examples.
    start: the first step to give; nothing before it is read.
    shuffle: every epoch in its own order; otherwise in the source's order.
    rows: which rows of every global batch to read, in ascending order; None for all. A process of
      several reads those that its devices hold (see `feed`); the batches stay what they are.
    threads: that read ahead; 0 reads when asked. The order does not depend on it.
    ahead: batches kept ready.

  Raises:
    UserError: the source is empty, or batch_size is less than 1.
  """
  steps = _Steps(source, batch_size, rows, seed if shuffle else None)
  return _iterate(steps, start, threads, ahead)


def examples(
  source: Source,
  batch_size: int,
  *,
  seed: int,
  step: int,
  rows: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Which examples batch number `step` of `batches` is made of: their epochs (B,), numbers (B,)."""
  return _Steps(source, batch_size, rows, seed).examples(step)


def fingerprint(source: Source) -> str:
  """Sixteen letters that are others when the data is other data.

  They are of the number of examples and of up to 64 of them, evenly spread: a document that was
  added, removed or lengthened shifts all examples behind it.
  """
  digest = hashlib.blake2b(str(len(source)).encode(), digest_size=8)
  numbers = np.unique(np.linspace(0, len(source) - 1, 64).astype(np.int64))
  for key, value in sorted(source.take(numbers, 0).items() if len(source) else ()):
    digest.update(f"{key} {value.dtype} {value.shape}".encode())
    digest.update(np.ascontiguousarray(value).tobytes())
  return digest.hexdigest()


def epoch(
  source: Source,
  batch_size: int,
  *,
  rows: np.ndarray | None = None,
  limit: int | None = None,
  threads: int = THREADS,
  ahead: int = AHEAD,
) -> Iterator[Batch]:
  """Every example once, in order; the last batch is filled with padding rows (all zeros).

  There are `ceil(len(source) / batch_size)` of them, or `limit` where that is less, whichever
  `rows` a process reads.
  """
  passes = _Pass(source, batch_size, rows, limit)
  return _iterate(passes, 0, threads, ahead)


def _iterate(steps, start: int, threads: int, ahead: int) -> Iterator[Batch]:
  import grain  # it brings JAX along; who only looks at a dataset need not wait for that

  # Whole batches are the elements of the MapDataset, so neither threads nor processes can change
  # their order, and the step is all the state there is: resuming is a slice, nothing is replayed.
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead if threads else 0)
  dataset = grain.MapDataset.source(steps)
  return iter(dataset[start:].to_iter_dataset(options)) if len(steps) > start else iter(())


def _rows(batch_size: int, rows: np.ndarray | None) -> np.ndarray:
  """The numbers of the rows to read."""
  if batch_size < 1:
    raise UserError(f"batch_size={batch_size} is no number of examples; choose 1 or more")
  return np.arange(batch_size) if rows is None else np.asarray(rows, np.int64)


class _Steps:
  """Batches by step number, without end."""

  def __init__(self, source: Source, batch_size: int, rows: np.ndarray | None, seed: int | None):
    if len(source) == 0:
      raise UserError("the dataset has no examples; give it more data or a shorter length")
    self.source, self.batch_size, self.seed = source, batch_size, seed
    self.rows = _rows(batch_size, rows)
    # A step may reach over two epochs, or over many where the source is smaller than a batch.
    self.order = functools.lru_cache(maxsize=4)(self._order)

  def __len__(self) -> int:
    return sys.maxsize // (2 * self.batch_size)

  def __getitem__(self, step: int) -> Batch:
    epochs, numbers = self.examples(step)
    if epochs[0] == epochs[-1]:
      return self.source.take(numbers, int(epochs[0]))
    parts = [self.source.take(numbers[epochs == epoch], int(epoch)) for epoch in np.unique(epochs)]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

  def examples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Epoch and number of each example of a batch."""
    places = step * self.batch_size + self.rows
    epochs, within = np.divmod(places, len(self.source))
    numbers = [self.order(int(epoch))[within[epochs == epoch]] for epoch in np.unique(epochs)]
    return epochs, np.concatenate(numbers)

  def _order(self, epoch: int) -> np.ndarray:
    size = len(self.source)
    if self.seed is None:
      return np.arange(size)
    # RandomState, not default_rng: NumPy promises never to change RandomState's streams (NEP 19),
    # so a run can be replayed with any later NumPy.
    words = [part // 2**shift % 2**32 for part in (self.seed, epoch) for shift in (0, 32)]
    return np.random.RandomState(np.array(words, np.uint32)).permutation(size)


class _Pass:
  """The batches of one pass over a source in its own order."""

  def __init__(self, source: Source, batch_size: int, rows: np.ndarray | None, limit: int | None):
    self.source, self.batch_size = source, batch_size
    self.rows = _rows(batch_size, rows)
    self.length = -(-len(source) // batch_size)
    if limit is not None:
      self.length = min(self.length, limit)

  def __len__(self) -> int:
    return self.length

  def __getitem__(self, step: int) -> Batch:
    places = step * self.batch_size + self.rows
    real = places[places < len(self.source)]
    # A process whose rows are all padding still needs the keys and shapes: it reads one example.
    batch = self.source.take(real if len(real) else np.zeros(1, np.int64), 0)
    missing = len(places) - len(real)
    if not missing:
      return batch
    return {key: _padded(value[: len(real)], missing) for key, value in batch.items()}


def _padded(value: np.ndarray, rows: int) -> np.ndarray:
  return np.concatenate([value, np.zeros((rows, *value.shape[1:]), value.dtype)])
