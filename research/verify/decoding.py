"""A text read bit by bit through a cache is predicted as when it is read at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research import generate, sharding
from research.nn.cross_entropy import unembed
from research.verify.rows import EQUAL, DoesNotApply, Row, within
from research.verify.sight import check_next_token
from research.verify.subject import Subject

PROMPTS = 4


def decoding(subject: Subject) -> Iterator[Row]:
  """Token by token, after a prefix, and as `research sample` writes: always the full forward."""
  if "source" in subject.rows:
    yield from _targets(subject)
    return
  reader = Reader(subject)
  tokens_BL = _texts(subject, reader.length)
  B, L = tokens_BL.shape
  ones_BL, places_BL = np.ones_like(tokens_BL), np.tile(np.arange(L, dtype=np.int32), (B, 1))
  full_BLV = reader.full(tokens_BL, ones_BL, places_BL)
  yield _same("token by token", reader.read(tokens_BL, None, None, first=1), full_BLV)

  # As prompts of different lengths are decoded: side by side, with padding before the short ones.
  places_BL = places_BL - 2 * np.arange(B, dtype=np.int32)[:, None]
  segments_BL, places_BL = (places_BL >= 0).astype(np.int32), np.maximum(places_BL, 0)
  full_BLV = reader.full(tokens_BL, segments_BL, places_BL)
  read_BLV = reader.read(tokens_BL, segments_BL, places_BL, first=L // 2)
  yield _same("after a prefix", read_BLV, full_BLV, segments_BL > 0)
  yield _generated(subject, reader, tokens_BL)


def _targets(subject: Subject) -> Iterator[Row]:
  """The same of a decoder that has a source: its targets are read, and written."""
  model, params = subject.plain.model, subject.params
  lacks = [name for name in ("encode", "decode", "table", "biases") if not hasattr(model, name)]
  if lacks:
    raise DoesNotApply(f"the model has no {' and no '.join(lacks)}, so nothing decodes with it")
  source_BM, tokens_BL = (subject.rows[name][:PROMPTS] for name in ("source", "tokens"))
  L = tokens_BL.shape[1]

  def logits(bound, tokens_BL, memory_BMD):
    return unembed(bound.decode(tokens_BL, memory_BMD), bound.table(), bound.biases())

  @jax.jit
  def piece(cache, tokens_BL, memory_BMD):
    with sharding.use(subject.program.layout):
      variables = {"params": params, **cache}
      return model.apply(variables, tokens_BL, memory_BMD, method=logits, mutable=["cache"])

  @jax.jit
  def full(tokens_BL, memory_BMD):
    with sharding.use(subject.program.layout):
      return model.apply({"params": params}, tokens_BL, memory_BMD, method=logits)

  with sharding.use(subject.program.layout):
    memory_BMD = model.apply({"params": params}, source_BM, method="encode")
  cache: dict[str, Any] = {}
  found = []
  for i in range(L):
    y, cache = piece(cache, tokens_BL[:, i : i + 1], memory_BMD)
    if not jax.tree.leaves(cache):
      raise DoesNotApply("the model keeps no 'cache' collection")
    found.append(np.asarray(y))
  yield _same("token by token", np.concatenate(found, axis=1), full(tokens_BL, memory_BMD))

  begin = int(tokens_BL[0, 0])
  written = generate.translate(
    model, params, list(source_BM), steps=L, begin=(begin,), end=None, search=generate.Greedy()
  )
  text_BL = np.array([[begin, *row[: L - 1]] for row in written], np.int32)
  full_BLV = np.asarray(full(text_BL, memory_BMD))
  chosen_BL = np.take_along_axis(full_BLV, np.array(written)[:, :L, None], axis=-1)[..., 0]
  gap = (full_BLV.max(-1) - chosen_BL).max() / np.abs(full_BLV).max()
  note = "translate() with Greedy() writes tokens that the full forward does not find likeliest"
  yield within("as it writes", gap, EQUAL, note)


class Reader:
  """The decoder of an experiment, compiled for reading at once and in pieces."""

  def __init__(self, subject: Subject):
    check_next_token(subject.rows)
    model = subject.plain.model
    lacks = [name for name in ("encode", "table", "max_length") if not hasattr(model, name)]
    if lacks:
      raise DoesNotApply(f"the model has no {' and no '.join(lacks)}, so nothing decodes with it")
    self.params, self.length = subject.params, model.max_length

    def logits(bound, *inputs):
      return unembed(bound.encode(*inputs), bound.table())

    @jax.jit
    def full(*inputs):
      with sharding.use(subject.program.layout):
        return model.apply({"params": subject.params}, *inputs, method=logits)

    @jax.jit
    def piece(cache, *inputs):
      with sharding.use(subject.program.layout):
        variables = {"params": subject.params, **cache}
        return model.apply(variables, *inputs, method=logits, mutable=["cache"])

    self.full, self._piece = full, piece

  def read(self, tokens_BL, segments_BL, positions_BL, *, first: int) -> np.ndarray:
    """Logits at every place: of the `first` tokens at once, then of one after another."""
    cache: dict[str, Any] = {}
    found = []
    L = tokens_BL.shape[1]
    for start, stop in [(0, first), *((i, i + 1) for i in range(first, L))]:
      whole = (tokens_BL, segments_BL, positions_BL)
      y, cache = self._piece(cache, *(None if x is None else x[:, start:stop] for x in whole))
      if not jax.tree.leaves(cache):
        raise DoesNotApply("the model keeps no 'cache' collection")
      found.append(np.asarray(y))
    return np.concatenate(found, axis=1)


def _texts(subject: Subject, max_length: int) -> np.ndarray:
  rows = subject.rows["tokens"]
  whole = rows[::2]  # odd rows are half padding
  return np.ascontiguousarray(whole[:PROMPTS, : min(rows.shape[1], max_length)])


def _same(part: str, read_BLV, full_BLV, real_BL=None) -> Row:
  full_BLV = np.asarray(full_BLV)
  error_BL = np.abs(read_BLV - full_BLV).max(-1)
  if real_BL is not None:
    error_BL = np.where(real_BL, error_BL, 0)
  far = error_BL.max() / np.abs(full_BLV).max()
  b, i = np.unravel_index(error_BL.argmax(), error_BL.shape)
  first = int((error_BL > EQUAL * np.abs(full_BLV).max()).any(0).argmax())
  note = f"logits differ from place {first} on, most at {i} (text {b})"
  return within(part, far, EQUAL, note)


def _generated(subject: Subject, reader: Reader, tokens_BL: np.ndarray) -> Row:
  """How far below the likeliest the tokens are that greedy decoding takes."""
  B, L = tokens_BL.shape
  lengths = [2 + 3 * b % (L // 2) for b in range(B)]
  prompts = [row[:n] for row, n in zip(tokens_BL, lengths)]
  written_BS = generate.generate(
    subject.plain.model,
    subject.params,
    prompts,
    steps=L // 2,
    sampler=generate.Greedy(),
    key=jax.random.key(0, impl="threefry2x32"),
    end=None,
  )
  text_BL, places_BL = np.zeros_like(tokens_BL), np.tile(np.arange(L, dtype=np.int32), (B, 1))
  ends = []
  for b, (prompt, written) in enumerate(zip(prompts, written_BS)):
    whole = np.concatenate([prompt, written[written >= 0]])[:L]
    text_BL[b, : len(whole)] = whole
    ends.append(len(whole))
  segments_BL = (places_BL < np.array(ends)[:, None]).astype(np.int32)
  full_BLV = np.asarray(reader.full(text_BL, segments_BL, jnp.asarray(places_BL)))
  gaps = [
    full_BLV[b, i - 1].max() - full_BLV[b, i - 1, text_BL[b, i]]
    for b in range(B)
    for i in range(lengths[b], ends[b])
  ]
  note = (
    "generate() with Greedy() writes tokens that the full forward does not find likeliest; what "
    "was read is kept by nn.History, under the name 'history'"
  )
  return within("as it writes", max(gaps) / np.abs(full_BLV).max(), EQUAL, note)
