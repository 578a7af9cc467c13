"""Counts the n-grams of a stream of documents exactly, as a trie grown one order at a time.

A k-gram is named by its node: the rank of (node of its first k-1 tokens, last token) among all
k-grams of the stream. The pair packs into one 64-bit integer whatever k and the vocabulary are, so
counting an order is one sort and looking n-grams up is one binary search: no hashing, no
collisions. Level 0 is the empty n-gram alone, the root; level 1 has every token of the vocabulary,
seen or not, and its nodes are the token ids.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
  from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Level:
  """The distinct k-grams of a stream, G of them, sorted by (prefix, last token).

  Attributes:
    keys: (G,) int64, prefix node * vocab_size + last token, ascending.
    suffixes: (G,) int32 node, one level up, of the last k-1 tokens.
    counts: (G,) int64 how often the k-gram occurs.
    opens: (G,) bool, whether it begins with the mark at the start of a document: then no token
      can stand to its left.
  """

  keys: np.ndarray
  suffixes: np.ndarray
  counts: np.ndarray
  opens: np.ndarray


def count(tokens: np.ndarray, order: int, vocab_size: int, end: int) -> Iterator[Level]:
  """Yields levels 1 to `order` of the stream `tokens` (N,), documents each closed by `end`.

  Every token is counted as a prediction; the first of a document has the context [end], and no
  context reaches further back. A level may be empty, if no document is long enough.
  """
  counts = np.bincount(tokens, minlength=vocab_size)
  nothing = np.zeros(vocab_size, np.int32)
  yield Level(np.arange(vocab_size), nothing, counts, nothing > 0)
  nodes, opens = tokens, np.arange(vocab_size) == end
  for length in range(1, order):
    contexts = before(nodes, tokens, length, end)
    positions = np.flatnonzero(contexts >= 0)
    keys = pack(contexts[positions], tokens[positions], vocab_size)
    del contexts
    keys, examples, counts, ranks = _rank(keys)
    suffixes = nodes[positions[examples]].astype(np.int32)
    opens = opens[keys // vocab_size]
    nodes = np.full(len(tokens), -1, np.int32)
    nodes[positions] = ranks
    yield Level(keys, suffixes, counts, opens)


def before(nodes: np.ndarray, tokens: np.ndarray, length: int, end: int) -> np.ndarray:
  """The context of each prediction (N,): the node of the `length` tokens before it, -1 for none.

  Args:
    nodes: (N,) node of the `length` tokens that end at each token, -1 for none.
    tokens: (N,) the stream.
    length: of the contexts, 1 or more.
    end: the token between documents; it stands before the first one, too.
  """
  contexts = np.empty_like(nodes)
  contexts[1:] = nodes[:-1]
  if length > 1:
    contexts[1:][tokens[:-1] == end] = -1
  contexts[:1] = end if length == 1 else -1
  return contexts


def pack(contexts: np.ndarray, tokens: np.ndarray, vocab_size: int) -> np.ndarray:
  """The keys of `contexts`, each extended by its token."""
  keys = contexts.astype(np.int64)
  keys *= vocab_size
  keys += tokens
  return keys


def find(keys: np.ndarray, contexts: np.ndarray, tokens: np.ndarray, vocab_size: int) -> np.ndarray:
  """Nodes (N,) int64 of `contexts` (N,) extended by `tokens` (N,), -1 for those not in `keys`."""
  nodes = np.full(len(tokens), -1, np.int64)
  positions = np.flatnonzero(contexts >= 0)
  if not len(keys) or not len(positions):
    return nodes
  # Each distinct key is looked for once, in ascending order: neighbours share cache lines.
  wanted, back = np.unique(pack(contexts[positions], tokens[positions], vocab_size), False, True)
  places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
  nodes[positions] = np.where(keys[places] == wanted, places, -1)[back]
  return nodes


def _rank(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Distinct keys ascending, an index of each, how often each occurs, and the rank of every key.

  It is `np.unique` with all its results, in a third of the time: the sort need not be stable.
  """
  order = np.argsort(keys)
  ordered = keys[order]
  new = np.ones(len(keys), bool)
  np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
  starts = np.flatnonzero(new)
  ranks = np.empty(len(keys), np.int32)
  ranks[order] = np.cumsum(new, dtype=np.int32) - 1
  counts = np.diff(starts, append=len(keys))
  return ordered[starts], order[starts], counts, ranks
