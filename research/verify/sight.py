"""Who sees whom, measured: which inputs a model's every prediction really depends on.

Neither the model's own mask nor its code is asked. What a prediction may see follows from the
batch: it is scored against the token that comes next in its document, so it may depend on nothing
after its place, and on no other document.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from research import sharding
from research.nn import Mask
from research.verify.rows import BROKEN, DoesNotApply, Row, within
from research.verify.small import found
from research.verify.subject import Subject, changed

UNSEEN = 1e-6  # of the largest influence: exp of the lowest score is zero, not small
ROWS = 4


def causality(subject: Subject) -> Iterator[Row]:
  """No prediction depends on what comes after it in its document."""
  rows = subject.rows
  if "targets" in rows and np.array_equal(rows["targets"], rows["tokens"]):
    note = "every target is the very token that it is predicted from: the data do not shift them"
    yield Row("targets", verdict=BROKEN, note=note)
    return
  batch, influences = measured(subject)
  same_BLM, later_LM = _same_document(batch), ~Mask(causal=True).dense(*_square(batch))[0, 0]
  for name, influence_BLM in influences.items():
    # The target of a place is itself what comes next: not even that one may be seen.
    hidden_LM = later_LM | np.eye(len(later_LM), dtype=bool) if name == "targets" else later_LM
    yield _unseen(name, influence_BLM, same_BLM & np.asarray(hidden_LM))


def segments(subject: Subject) -> Iterator[Row]:
  """No prediction depends on another document in its row, or on padding."""
  batch, influences = measured(subject)
  if "segments" not in batch:
    raise DoesNotApply("a batch has no 'segments': each row is one document")
  for name, influence_BLM in influences.items():
    yield _unseen(name, influence_BLM, ~_same_document(batch) & _real(batch)[:, :, None])


def windows(subject: Subject) -> Iterator[Row]:
  """One layer with a window of w sees exactly the w - 1 tokens before each, and itself."""
  bands = {
    (path, width)
    for path, value in found(subject.plain, "model", "windows").items()
    for width in value
    if width is not None
  }
  if not bands:
    raise DoesNotApply("the model has no field 'windows' with a number in it")
  for path, width in sorted(bands):
    depth = path.rsplit(".", 1)[0] + ".depth"
    one = changed(subject.plain, {path: (width,), depth: 1})
    narrow = Subject(subject.target, subject.words, one)
    batch, influences = measured(narrow)
    L = _square(batch)[1]
    back_LM = np.arange(L)[:, None] - np.arange(L)
    whole_row = np.zeros_like(_same_document(batch))
    whole_row[0] = True  # the first row is one document
    name = "gradient" if "gradient" in influences else "tokens"
    seen_BLM = influences[name]
    yield _unseen(f"{width} tokens", seen_BLM, whole_row & (back_LM >= width))
    edge = seen_BLM[0][back_LM == width - 1].max(initial=0.0)
    if width <= L and edge <= UNSEEN:
      yield Row(f"{width} tokens", verdict=BROKEN, note=f"not even {width - 1} back is seen")


@functools.lru_cache(maxsize=1)  # two checks read it
def measured(subject: Subject) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """A batch of packed rows, and how much prediction i depends on input j: (B, L, L) by method.

  gradient: of the outputs by the embedded tokens, where the model embeds them in a layer.
  tokens, targets: the largest change of an output when an input is another token.
  """
  batch = packed(subject)
  run = predictions(subject)
  params = subject.params
  influences = {"tokens": _by_change(run, params, batch, "tokens")}
  influences["targets"] = _by_change(run, params, batch, "targets")
  by_gradient = _by_gradient(subject, params, batch)
  if by_gradient is not None:
    influences["gradient"] = by_gradient
  # The targets' influence has no largest value of its own: it should be zero everywhere.
  largest = {name: x.max() for name, x in influences.items()}
  largest["targets"] = largest["tokens"]
  scaled = {name: x / (largest[name] or 1.0) for name, x in influences.items()}
  return batch, scaled


def packed(subject: Subject) -> dict[str, np.ndarray]:
  """Rows of real tokens: one document; three and padding; two after padding; odd lengths."""
  rows = subject.rows
  check_next_token(rows)
  batch = {name: x[:ROWS].copy() for name, x in rows.items()}
  words = rows["tokens"][rows.get("segments", rows["tokens"] + 1) > 0]
  B, L = batch["tokens"].shape
  rng = np.random.RandomState(0)
  stream_BL = rng.choice(words, (B, L + 1))
  batch["tokens"], batch["targets"] = stream_BL[:, :-1].copy(), stream_BL[:, 1:].copy()
  if "segments" in batch:
    third, half, pad = L // 3, L // 2, L // 8
    lengths = [[L], [third, third, L - 2 * third - pad], [half, L - half - pad], [1, L - 1]]
    for b in range(B):
      left = pad if b == 2 else 0
      numbers = np.repeat(np.arange(1, len(lengths[b]) + 1), lengths[b])
      batch["segments"][b] = np.pad(numbers, (left, L - left - len(numbers)))
  if "positions" in batch:
    same_BLM = _same_document(batch)
    batch["positions"] = np.maximum(np.tril(same_BLM).sum(-1) - 1, 0).astype(np.int32)
  return batch


def check_next_token(rows: dict[str, np.ndarray]) -> None:
  """DoesNotApply unless every target is the token that follows in the row."""
  if rows.get("tokens", np.zeros(1)).ndim != 2 or "targets" not in rows:
    raise DoesNotApply("a batch has no (B, L) 'tokens' and 'targets': nothing comes next")
  if rows["targets"].shape != rows["tokens"].shape:
    raise DoesNotApply("not every token has a target: what comes next is not what is predicted")
  follows = rows["targets"][:, :-1] == rows["tokens"][:, 1:]
  segments = rows.get("segments", np.ones_like(rows["tokens"]))
  within_document = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
  if not follows[within_document].all():
    raise DoesNotApply("the targets are not the tokens that come next, so both sides may be seen")


def outputs(score: Any, params: Any, batch: Any, nudge_BL: jax.Array | None = None) -> list:
  """What the model gave the objective for every place: its float results (B, L, ...).

  `nudge_BL` moves the vector that a layer of the model makes of each token, in one direction.
  """
  tokens, seen, depth = batch["tokens"], [], 0

  def watch(call, arguments, named, context):
    nonlocal depth
    if context.method_name == "setup":
      return call(*arguments, **named)
    depth += 1
    try:
      y = call(*arguments, **named)
    finally:
      depth -= 1
    if depth and nudge_BL is not None and arguments and arguments[0] is tokens:
      return _nudged(y, nudge_BL)
    if not depth:
      seen.extend(x for x in jax.tree.leaves(y) if _of_places(x, tokens))
    return y

  with nn.intercept_methods(watch):
    score({"params": params}, batch)
  return seen


def predictions(subject: Subject) -> Any:
  """Jitted (params, batch) -> (B, L, ...) outputs; DoesNotApply where there are none."""
  score = nn.apply(subject.plain.objective, subject.plain.model)

  @jax.jit
  def run(params, batch):
    with sharding.use(subject.program.layout):
      return outputs(score, params, batch)

  if not jax.eval_shape(run, subject.params, subject.rows):
    raise DoesNotApply("the model gives its objective no array (B, L, ...), one value a place")
  return run


def _by_change(run: Any, params: Any, batch: Any, name: str) -> np.ndarray:
  """(B, L, L): how far output i moves when input j of its row is another token."""
  other_BL = np.roll(batch[name], 1, axis=1)
  other_BL = np.where(other_BL == batch[name], np.roll(batch[name], 1, axis=0), other_BL)
  before = [np.asarray(y, np.float64) for y in run(params, batch)]
  columns = []
  for j in range(batch[name].shape[1]):
    x = batch[name].copy()
    x[:, j] = other_BL[:, j]
    after = run(params, {**batch, name: x})
    moved = [np.abs(np.asarray(y, np.float64) - z) for y, z in zip(after, before)]
    columns.append(sum(m.reshape(*m.shape[:2], -1).max(-1) for m in moved))
  return np.stack(columns, axis=-1)


def _by_gradient(subject: Subject, params: Any, batch: Any) -> np.ndarray | None:
  """(B, L, L): |d output i / d embedded token j|, each in a random direction; None without one."""
  score = nn.apply(subject.plain.objective, subject.plain.model)
  B, L = batch["tokens"].shape

  def projected(nudge_BL, batch):
    """(B, L): every output along a random direction."""
    total = jnp.zeros((B, L))
    for y in outputs(score, params, batch, nudge_BL):
      y = y.astype(jnp.float32).reshape(B, L, -1)
      total += y @ jax.random.normal(jax.random.key(1), (y.shape[-1],))
    return total

  @jax.jit
  def rows_of_jacobian(batch):
    with sharding.use(subject.program.layout):
      _, back = jax.vjp(functools.partial(projected, batch=batch), jnp.zeros((B, L)))
      # One place of all rows at a time: rows are another matter. A loop, as kernels of our own
      # need not know how to be vectorized.
      one_hot_L1L = jnp.eye(L)[:, None]
      return jax.lax.map(lambda x: back(jnp.broadcast_to(x, (B, L)))[0], one_hot_L1L)

  jacobian_BLM = np.abs(np.asarray(rows_of_jacobian(batch), np.float64)).swapaxes(0, 1)
  return jacobian_BLM if jacobian_BLM.any() else None


def _nudged(y: Any, nudge_BL: jax.Array) -> Any:
  if not (isinstance(y, jax.Array) and y.shape[:2] == nudge_BL.shape and y.ndim == 3):
    return y
  return y + nudge_BL[..., None] * jax.random.normal(jax.random.key(0), y.shape[2:], y.dtype)


def _of_places(x: Any, tokens: Any) -> bool:
  is_array = isinstance(x, jax.Array | np.ndarray)
  return is_array and x.shape[:2] == tokens.shape and jnp.issubdtype(x.dtype, jnp.floating)


def _square(batch: dict[str, np.ndarray]) -> tuple[int, int]:
  L = batch["tokens"].shape[1]
  return L, L


def _real(batch: dict[str, np.ndarray]) -> np.ndarray:
  return batch["segments"] > 0 if "segments" in batch else np.ones_like(batch["tokens"], bool)


def _same_document(batch: dict[str, np.ndarray]) -> np.ndarray:
  """(B, L, L): whether two places are of one document."""
  if "segments" not in batch:
    B, L = batch["tokens"].shape
    return np.ones((B, L, L), bool)
  segments_BL = batch["segments"]
  return (segments_BL[:, :, None] == segments_BL[:, None, :]) & (segments_BL > 0)[:, :, None]


def _unseen(name: str, influence_BLM: np.ndarray, hidden_BLM: np.ndarray) -> Row:
  """Holds where nothing hidden has an influence; otherwise names the strongest."""
  strength_BLM = np.where(hidden_BLM, influence_BLM, 0)
  strength_BLM = np.where(np.isnan(influence_BLM), np.inf, strength_BLM)
  b, i, j = np.unravel_index(strength_BLM.argmax(), strength_BLM.shape)
  where = f"the prediction at {i} depends on {_said(name)} at {j} (row {b} of the packed batch)"
  return within(name, strength_BLM.max(), UNSEEN, where)


def _said(name: str) -> str:
  return "the target" if name == "targets" else "the token"
