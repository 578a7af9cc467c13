"""How answers to questions are judged: exact match and F1 by SQuAD's definition.

Rajpurkar et al., 2016, section 6.1, and 2018, section 5, with the normalization of their published
evaluation script.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import string
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from research.data.pipeline import epoch
from research.data.task_rows import Rows
from research.errors import UserError
from research.generate import language
from research.metrics import Mean, Metrics
from research.objectives import Span

INPUTS = ("tokens", "segments")


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a model answers to one question.

  Attributes:
    begin, end: characters of the text; both 0 where no span is possible.
    score: of the best span, log p of its places.
    null: of no answer.
  """

  begin: int
  end: int
  score: float
  null: float

  @property
  def doubt(self) -> float:
    """How much likelier no answer is; above a threshold, none is given."""
    return self.null - self.score


@dataclasses.dataclass(frozen=True)
class Answered:
  """Exact match and F1 of the answers to held-out questions.

  Attributes:
    objective: which spans are looked at.
    threshold: no answer is given where it is likelier than the best span by more than this (in
      nats); None where every question has an answer, as in SQuAD 1.1.
    best_threshold: also measures what the best threshold on these questions would give, as SQuAD
      2.0's script does. It is chosen by the answers, so it is no estimate for others.
    every: steps between evaluations; None for a tenth of the run. The end is always evaluated.
    split: of the dataset.
    rows: at a time.
  """

  objective: Span = Span()  # noqa: RUF009 (frozen)
  threshold: float | None = 0.0
  best_threshold: bool = False
  every: int | None = None
  split: str = "heldout"
  rows: int = 32

  def __post_init__(self):
    if self.rows < 1:
      raise UserError(f"rows={self.rows} answers nothing; choose at least 1.")

  def total(
    self, model: Any, params: Any, dataset: Any, stopping: Callable[[], bool] = lambda: False
  ) -> Metrics | None:
    """Measures, from 0 to 1:

    exact, f1: of all questions.
    answered: the share that got an answer.
    answerable_f1: of the questions that have one, where not all have.
    best_exact, best_f1: with the best threshold, where it is asked for.

    Args:
      model: gives two logits for each token, such as `models.Reader`.
      params: its parameters.
      dataset: `data.Questions`.
      stopping: asked after every few rows; where it says yes, the result is None.
    """
    prepared = dataset.prepare()
    names = (*INPUTS, "begins", "ends", "central", "record")
    arrays = {name: prepared.array(self.split, name) for name in names}
    records = prepared.records(self.split)
    found = answers(self.objective, model, params, arrays, len(records), self.rows, stopping)
    if found is None:
      return None
    exact, f1 = np.zeros(len(records)), np.zeros(len(records))
    none = np.array([not record["answers"] for record in records])
    for i, (answer, record) in enumerate(zip(found, records)):
      text, right = record["context"], [record["context"][a:b] for a, b in record["answers"]]
      exact[i], f1[i] = compare(text[answer.begin : answer.end], right or [""])
    doubts = np.array([answer.doubt for answer in found])
    silent = doubts > (np.inf if self.threshold is None else self.threshold)
    # Where nothing is answered, a question without an answer is right, and another is wrong.
    said = {"exact": np.where(silent, none, exact), "f1": np.where(silent, none, f1)}
    measured = {name: _mean(values) for name, values in said.items()}
    measured["answered"] = _mean(~silent)
    if none.any():
      measured["answerable_f1"] = _mean(said["f1"][~none])
    if self.best_threshold:
      for name, values in (("best_exact", exact), ("best_f1", f1)):
        measured[name] = Mean(best_with_threshold(doubts, values, none), len(records))
    return measured


def answers(
  objective: Span,
  model: Any,
  params: Any,
  arrays: dict[str, np.ndarray],
  count: int,
  rows: int,
  stopping: Callable[[], bool] = lambda: False,
) -> list[Answer] | None:
  """The best answer of every question, over the windows of its text.

  Args:
    objective, model, params: give the spans of a row.
    arrays: of `Questions.encode`.
    count: of the questions.
    rows: at a time.
    stopping: as of `Answered.total`.
  """
  spans_of = nn.apply(lambda model, batch: objective.predict(model, batch), model)
  predict = jax.jit(spans_of, out_shardings=language.replicated(params))
  best = [Answer(0, 0, -np.inf, np.inf)] * count
  done = 0
  source = Rows({name: arrays[name] for name in INPUTS})
  for batch in epoch(source, rows):
    spans = jax.device_get(predict({"params": params}, batch))
    for row in range(min(rows, len(source) - done)):
      number = int(arrays["record"][done + row])
      found = _best(spans, row, {name: arrays[name][done + row] for name in arrays})
      before = best[number]
      null = min(before.null, found.null)
      best[number] = dataclasses.replace(max(before, found, key=lambda a: a.score), null=null)
    done += rows
    if stopping():
      return None
  return best


def _best(spans: dict[str, np.ndarray], row: int, of_row: dict[str, np.ndarray]) -> Answer:
  """The best span of a row that begins where its window is the best one."""
  null = float(spans["null"][row])
  for score, first, last in zip(*(spans[name][row] for name in ("scores", "first", "last"))):
    if np.isfinite(score) and of_row["central"][first]:
      begin, end = int(of_row["begins"][first]), int(of_row["ends"][last])
      return Answer(begin, end, float(score), null)
  return Answer(0, 0, -np.inf, null)


def normalized(text: str) -> str:
  """Small letters, no punctuation, no articles, single spaces."""
  bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
  return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def compare(said: str, right: Sequence[str]) -> tuple[float, float]:
  """Exact match and F1 of an answer: the most over all right ones; "" is no answer."""
  # A right answer of nothing but articles and marks is none, unless there is no other.
  right = [text for text in right if normalized(text)] or [""]
  exact = max(float(normalized(said) == normalized(text)) for text in right)
  return exact, max(_f1(normalized(said).split(), normalized(text).split()) for text in right)


def _f1(said: list[str], right: list[str]) -> float:
  if not said or not right:
    return float(said == right)
  same = sum((collections.Counter(said) & collections.Counter(right)).values())
  return 2 * same / (len(said) + len(right))


def best_with_threshold(doubts: np.ndarray, scores: np.ndarray, none: np.ndarray) -> float:
  """The largest total of scores over all thresholds of doubt.

  Args:
    doubts: of every question.
    scores: of its answer, were it given.
    none: whether it has no answer, so that silence scores 1.
  """
  order = np.argsort(doubts, kind="stable")
  # With k questions answered, those of the least doubt: their scores, and silence for the others.
  gains = (scores - none)[order]
  # The cut may lie between equal doubts: the published script allows that, too.
  return float(none.sum() + np.concatenate([[0.0], np.cumsum(gains)]).max())


def _mean(values: np.ndarray) -> Mean:
  values = np.asarray(values, np.float64)
  return Mean(float(values.sum()), float(len(values)), float((values**2).sum()))
