"""Evaluations of a language model by what it answers, with solved examples before or without.

Nothing is trained: the examples stand in the text (Brown et al., 2020, section 2.4).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from research.data.problems import Problem, Problems
from research.errors import UserError
from research.generate.language import power_of_two, replicated
from research.metrics import Mean, Metrics, Sample
from research.nn.cross_entropy import unembed


@dataclasses.dataclass(frozen=True)
class InContext:
  """How often a decoder goes on with the right answer after a number of solved problems.

  Attributes:
    problems: `ProblemFile(path)`, `WhichLabel(records)`, `SymbolMaps(...)`.
    shots: numbers k of solved problems before each, ascending; 0 is zero-shot.
    limit: problems that are asked, from the first on; None for all.
    every: steps between evaluations; None for a tenth of the run. The end is always evaluated.
    rows: texts at a time.
  """

  problems: Problems
  shots: tuple[int, ...]
  limit: int | None = None
  every: int | None = None
  rows: int = 64

  def __post_init__(self):
    if not self.shots or min(self.shots) < 0 or list(self.shots) != sorted(set(self.shots)):
      raise UserError(f"shots={self.shots} are numbers of solved problems, such as (0, 1, 4, 16).")
    for field in ("limit", "rows"):
      if (value := getattr(self, field)) is not None and value < 1:
        raise UserError(f"{field}={value} asks nothing; choose at least 1.")

  def total(
    self, model: Any, params: Any, dataset: Any, stopping: Callable[[], bool] = lambda: False
  ) -> Metrics | None:
    """Over all problems, for each number k of solved ones before them:

    exact_k: whether the likeliest text, token by token, is the answer to its last token.
    nats_k: -log p of a token of the answer.
    accuracy_k: only of problems with choices: whether the answer is likelier than the others, by
      the mean of its tokens.
    gain: exact_k of the most solved problems less that of the fewest.

    Args:
      model: a decoder with `encode` and `table`.
      params: its parameters.
      dataset: of the experiment, whose vocabulary the model reads.
      stopping: asked after every few texts; where it says yes, the result is None.

    Raises:
      UserError: a problem is longer than the model reads.
    """
    vocabulary, metrics, exact = dataset.prepare().vocabulary, {}, []
    for shots in self.shots:
      problems = list(itertools.islice(self.problems.problems(shots), self.limit))
      texts = _texts(problems, vocabulary)
      if (longest := max(len(text.tokens) for text in texts)) > model.max_length:
        raise UserError(
          f"a problem after {shots} solved ones has {longest} tokens, and the model reads "
          f"max_length={model.max_length}; show fewer, or train with a larger max_length."
        )
      answers = _answers(model, params, texts, self.rows, stopping)
      if answers is None:
        return None
      measured, hits = _measured(problems, *answers)
      metrics |= {f"{name}_{shots}": value for name, value in measured.items()}
      exact.append(hits)
    if len(exact) > 1:
      metrics["gain"] = _mean(exact[-1] - exact[0])
    return metrics


class Text(NamedTuple):
  """What a model reads: all tokens but the last, what follows each, and how many are the answer."""

  tokens: np.ndarray
  targets: np.ndarray
  answer: int


def _texts(problems: Sequence[Problem], vocabulary: Any) -> list[Text]:
  """One for every answer, the right one of a problem first, led by end-of-text as documents are."""
  said = [(p.context, answer) for p in problems for answer in (p.answer, *p.others)]
  contexts, answers = (vocabulary.encode_all(side) for side in zip(*said))
  texts = []
  for context, answer in zip(contexts, answers):
    whole = np.concatenate([[vocabulary.end], context, answer]).astype(np.int32)
    texts.append(Text(whole[:-1], whole[1:], len(answer)))
  return texts


def _answers(
  model: Any, params: Any, texts: Sequence[Text], rows: int, stopping: Callable[[], bool]
) -> tuple[list[np.ndarray], np.ndarray] | None:
  """Of every text: nats of each token of its answer, and whether all of them were the likeliest."""
  length = min(power_of_two(max(len(text.tokens) for text in texts)), model.max_length)
  room = power_of_two(max(text.answer for text in texts), least=1)
  nats, exact, shared = [], [], replicated(params)
  for first in range(0, len(texts), rows):
    some = texts[first : first + rows]
    found = jax.device_get(_score(model, shared, params, _batch(some, rows, length, room)))
    nats += [row[: text.answer] for row, text in zip(found[0], some)]
    exact += [row[: text.answer].all() for row, text in zip(found[1], some)]
    if stopping():
      return None
  return nats, np.array(exact, float)


def _batch(texts: Sequence[Text], rows: int, length: int, room: int) -> dict[str, np.ndarray]:
  """Rows filled up with padding; `places` (B, T) are those whose next token is of the answer."""
  sizes = {"tokens": length, "segments": length, "places": room, "targets": room}
  batch = {key: np.zeros((rows, size), np.int32) for key, size in sizes.items()}
  for row, text in enumerate(texts):
    size = len(text.tokens)
    batch["tokens"][row, :size], batch["segments"][row, :size] = text.tokens, 1
    batch["places"][row, : text.answer] = np.arange(size - text.answer, size)
    batch["targets"][row, : text.answer] = text.targets[-text.answer :]
  return batch


@partial(jax.jit, static_argnums=(0, 1))
def _score(model: Any, shared: Any, params: Any, batch: dict[str, Array]) -> tuple[Array, Array]:
  """As of `_scored`; `shared` is where every process can read it."""
  found = model.apply({"params": params}, batch, method=_scored)
  return found if shared is None else jax.lax.with_sharding_constraint(found, shared)


def _scored(model: Any, batch: dict[str, Array]) -> tuple[Array, Array]:
  """At every place: nats of the target, and whether it is the likeliest token; (B, T) each."""
  x_BLD = model.encode(batch["tokens"], batch["segments"])
  x_BTD = jnp.take_along_axis(x_BLD, batch["places"][..., None], axis=1)
  log_p_BTV = jax.nn.log_softmax(unembed(x_BTD, model.table()))
  nats_BT = -jnp.take_along_axis(log_p_BTV, batch["targets"][..., None], axis=-1)[..., 0]
  return nats_BT, jnp.argmax(log_p_BTV, axis=-1) == batch["targets"]


def _measured(
  problems: Sequence[Problem], nats: Sequence[np.ndarray], exact: np.ndarray
) -> tuple[Metrics, np.ndarray]:
  """Means over problems, of whose answers the right one comes first; and who was exact."""
  firsts = np.cumsum([0, *(1 + len(problem.others) for problem in problems)])
  exact = exact[firsts[:-1]]
  right = np.concatenate([nats[first] for first in firsts[:-1]])
  metrics: Metrics = {"exact": _mean(exact), "nats": _mean(right)}
  if all(problem.others for problem in problems):
    means = np.array([row.mean() for row in nats])
    parts = [means[first:last] for first, last in itertools.pairwise(firsts)]
    hits = np.array([part[0] < part[1:].min() for part in parts], float)
    metrics["accuracy"] = Sample(hits, float(np.mean([1 / len(part) for part in parts])))
  return metrics, exact


def _mean(values: np.ndarray) -> Mean:
  return Mean(float(values.sum()), float(len(values)), float(np.square(values).sum()))
