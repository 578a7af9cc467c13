"""N-gram language models: what counting alone achieves, the line a neural model has to cross.

A model is named unfitted in an experiment file, and fitted in one go:

  fitted = NGram(order=5).fit(tokens, vocab_size=257, end=256)
  nats_per_token = -fitted.log_probs(heldout).mean()
"""

from __future__ import annotations

import dataclasses
import math
import os
import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np

from research.errors import UserError
from research.metrics import Mean, Metrics
from research.models import ngram_counts
from research.models.ngram_smoothing import KneserNey, Smoothing

if TYPE_CHECKING:
  from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class NGram:
  """An n-gram model, not yet fitted.

  Attributes:
    order: n, the tokens in an n-gram: 2 is a bigram model, 5 the usual strong baseline.
    smoothing: how counts become probabilities, `KneserNey()` or `Additive(count)`.
  """

  order: int
  smoothing: Smoothing = KneserNey()  # noqa: RUF009 (frozen)

  def __post_init__(self) -> None:
    if self.order < 1:
      raise UserError(f"order={self.order} of an n-gram model; choose 1 (unigrams) or more")

  def fit(self, tokens: np.ndarray, *, vocab_size: int, end: int) -> FittedNGram:
    """Counts a stream of tokens: at order 5, about 2 s and 100 MB for every million of them.

    Args:
      tokens: (N,) integers, the documents one after the other, each closed by `end`.
      vocab_size: V; ids are 0 to V-1, and all of them get a probability.
      end: the end-of-text id. It is predicted after each document, and is the context of a
        document's first token; no context reaches over it.

    Raises:
      UserError: there are no tokens, or some are outside the vocabulary.
    """
    tokens = _checked(tokens, vocab_size)
    _checked([end], vocab_size)
    if not len(tokens):
      raise UserError("the corpus to count n-grams in is empty; give it at least one token")
    levels = list(ngram_counts.count(tokens, self.order, vocab_size, end))
    tables, lower = [], np.array([1 / vocab_size])
    for order in range(1, self.order + 1):
      level = levels.pop(0)  # no level is kept beside its table
      counts = level.counts
      if levels:
        extensions = np.bincount(levels[0].suffixes, minlength=len(counts))
        counts = self.smoothing.lower(level, extensions)
      tables.append(_interpolate(level, counts, self.smoothing, order, lower, vocab_size))
      lower = tables[-1].probs
    return FittedNGram(tuple(tables), vocab_size, end)


@dataclasses.dataclass(frozen=True)
class Table:
  """The probabilities of one order: G n-grams, after C contexts.

  Attributes:
    keys: (G,) int64, ascending: context * V + token, see `ngram_counts`.
    probs: (G,) float64, of the token in its context, lower orders included.
    backoff: (C,) float64, the factor of the lower order for tokens never seen after the context.
  """

  keys: np.ndarray
  probs: np.ndarray
  backoff: np.ndarray


@dataclasses.dataclass(frozen=True)
class FittedNGram:
  """A fitted n-gram model over V = `vocab_size` ids; `tables[k-1]` holds the k-grams."""

  tables: tuple[Table, ...]
  vocab_size: int
  end: int

  def log_probs(self, tokens: np.ndarray) -> np.ndarray:
    """The natural logarithm (N,) float64 of the probability of every token of a stream (N,).

    The stream is like that of `fit`, but may break off before an end-of-text.
    """
    tokens = _checked(tokens, self.vocab_size)
    nodes, probs = tokens, self.tables[0].probs[tokens]
    for length, table in enumerate(self.tables[1:], 1):
      contexts = ngram_counts.before(nodes, tokens, length, self.end)
      nodes = ngram_counts.find(table.keys, contexts, tokens, self.vocab_size)
      seen, missed = nodes >= 0, (nodes < 0) & (contexts >= 0)
      probs[seen] = table.probs[nodes[seen]]
      probs[missed] *= table.backoff[contexts[missed]]
    with np.errstate(divide="ignore"):  # log 0 is -inf: the impossible, under maximum likelihood
      return np.log(probs)

  def distribution(self, context: Sequence[int] | np.ndarray) -> np.ndarray:
    """The probabilities (V,) float64 of what follows `context`, the document so far."""
    context = _checked([self.end, *context[-len(self.tables) :]], self.vocab_size)
    opening = np.flatnonzero(context == self.end)[-1]
    probs = self.tables[0].probs.copy()
    for length, table in enumerate(self.tables[1:], 1):
      node = self._node(context[-length:]) if opening + length <= len(context) else -1
      if node < 0:
        break
      bounds = np.array([node, node + 1]) * self.vocab_size
      first, stop = np.searchsorted(table.keys, bounds)
      probs *= table.backoff[node]
      probs[table.keys[first:stop] - bounds[0]] = table.probs[first:stop]
    return probs

  def measure(self, tokens: np.ndarray, bytes_of: np.ndarray) -> Metrics:
    """What `objectives.NextToken` measures of a neural model: loss, nats and bits_per_byte.

    Args:
      tokens: (N,) a stream as for `log_probs`.
      bytes_of: (V,) the bytes of raw text that each id stands for; 0 for end-of-text.
    """
    nats = -self.log_probs(tokens)
    mean = Mean(nats.sum(), np.float64(len(nats)), np.square(nats).sum())
    bits = Mean(mean.total / math.log(2), np.float64(np.sum(bytes_of[tokens], dtype=np.int64)))
    return {"loss": mean, "nats": mean, "bits_per_byte": bits}

  def sample(
    self,
    prompt: Sequence[int] | np.ndarray,
    length: int,
    rng: np.random.Generator,
    *,
    temperature: float = 1.0,
  ) -> np.ndarray:
    """At most `length` int32 tokens that continue `prompt`; an end-of-text is the last.

    Probabilities are raised to the power 1 / `temperature`; 0 takes the most probable token.
    """
    text = list(prompt)
    while len(text) < len(prompt) + length:
      probs = self.distribution(text)
      if temperature > 0:
        weights = (probs / probs.max()) ** (1 / temperature)
        text.append(int(rng.choice(self.vocab_size, p=weights / weights.sum())))
      else:
        text.append(int(probs.argmax()))
      if text[-1] == self.end:
        break
    return np.array(text[len(prompt) :], np.int32)

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the model to `path`, one NumPy archive."""
    arrays = {"sizes": np.array([len(self.tables), self.vocab_size, self.end])}
    for k, table in enumerate(self.tables, 1):
      for field in dataclasses.fields(Table):
        arrays[f"{field.name}_{k}"] = getattr(table, field.name)
    with open(path, "wb") as file:  # given a name, NumPy would append .npz to it
      np.savez(file, **arrays)

  @classmethod
  def load(cls, path: str | os.PathLike[str]) -> FittedNGram:
    """Reads what `save` wrote; nothing in the file is executed."""
    foreign = UserError(f"{path} is no n-gram model; give a file that FittedNGram.save wrote")
    if os.path.exists(path) and not zipfile.is_zipfile(path):
      raise foreign
    try:
      with np.load(path, allow_pickle=False) as arrays:
        order, vocab_size, end = arrays["sizes"].tolist()
        tables = tuple(
          Table(*(arrays[f"{field.name}_{k}"] for field in dataclasses.fields(Table)))
          for k in range(1, order + 1)
        )
    except (
      ValueError,
      LookupError,
      TypeError,
      OSError,
      EOFError,
      zlib.error,
      MemoryError,
    ) as error:
      raise foreign from error
    return cls(tables, vocab_size, end)

  def _node(self, context: np.ndarray) -> int:
    """The node of a context (k,), -1 if it was never seen."""
    node = int(context[0])
    for table, token in zip(self.tables[1:], context[1:]):
      key = node * self.vocab_size + int(token)
      place = int(np.searchsorted(table.keys, key))
      if place == len(table.keys) or table.keys[place] != key:
        return -1
      node = place
    return node


def _interpolate(
  level: ngram_counts.Level,
  counts: np.ndarray,
  smoothing: Smoothing,
  order: int,
  lower: np.ndarray,
  vocab_size: int,
) -> Table:
  """The equation of `ngram_smoothing` for the k-grams (G,) of one order and their `counts` (G,).

  `lower` (C,) are the probabilities of the order below; its k-1-grams are this one's contexts.
  """
  discount = np.array([0.0, *smoothing.discounts(counts, order)])[np.minimum(counts, 3)]
  added = float(smoothing.added) * vocab_size
  contexts = level.keys // vocab_size
  mass = np.bincount(contexts, counts, len(lower)) + added
  backoff = np.bincount(contexts, discount, len(lower)) + added
  unseen = mass == 0
  mass[unseen] = backoff[unseen] = 1.0
  backoff /= mass
  probs = (counts - discount) / mass[contexts]
  probs += backoff[contexts] * lower[level.suffixes]
  return Table(level.keys, probs, backoff)


def _checked(tokens: Sequence[int] | np.ndarray, vocab_size: int) -> np.ndarray:
  """`tokens` as int32 (N,), all of them ids below `vocab_size`."""
  tokens = np.asarray(tokens)
  if tokens.ndim != 1 or (tokens.size and tokens.dtype.kind not in "iu"):
    raise UserError(f"tokens are {tokens.dtype} {tokens.shape}; give one flat array of integers")
  for token in (tokens.min(), tokens.max()) if tokens.size else ():
    if not 0 <= token < vocab_size:
      raise UserError(f"token {token} is outside the vocabulary; ids are 0 to {vocab_size - 1}")
  return tokens.astype(np.int32, copy=False)
