"""What a model is asked to write while it trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from research.errors import UserError
from research.generate.language import check, stream, wordless
from research.generate.sampling import Sample, Sampler


@dataclasses.dataclass(frozen=True)
class Samples:
  """Prompts that the model continues at every so many steps of its training.

  The randomness is the same every time, so that two samples differ by what was learned.

  Attributes:
    prompts: the beginnings of documents; "" asks for a document from its first word.
    tokens: to write at most. Less is written where the document ends or the model is full.
    sampler: how tokens are chosen, `generate.Greedy()` or `generate.Sample(...)`.
    every: steps between samples; None for a tenth of the run.
    seed: of the sampler.
  """

  prompts: tuple[str, ...]
  tokens: int = 128
  sampler: Sampler = Sample(temperature=0.8, top_p=0.95)  # noqa: RUF009 (frozen)
  every: int | None = None
  seed: int = 0

  def __post_init__(self):
    if not self.prompts:
      raise UserError("samples have no prompts; give some, such as ('',), or drop the samples.")
    if self.tokens < 1:
      raise UserError(f"tokens={self.tokens} writes nothing; choose at least 1.")
    if self.every is not None and self.every < 1:
      raise UserError(f"every={self.every} steps; choose at least 1, or None for a tenth.")

  def write(
    self,
    model: Any,
    params: Any,
    vocabulary: Any,
    stopping: Callable[[], bool] = lambda: False,
  ) -> list[tuple[str, str]] | None:
    """(prompt, what the model wrote after it), for every prompt.

    Args:
      model: a decoder, see `generate.stream`.
      params: its parameters.
      vocabulary: of the prompts.
      stopping: asked after every few tokens; where it says yes, the result is None.

    Raises:
      UserError: a prompt is longer than the model's `max_length`.
    """
    pieces = []
    for piece in stream(
      model,
      params,
      self.encoded(vocabulary, model.max_length),
      steps=self.tokens,
      sampler=self.sampler,
      key=jax.random.key(self.seed, impl="threefry2x32"),
      end=vocabulary.end,
      never=wordless(model, vocabulary),
    ):
      pieces.append(piece)
      if stopping():
        return None
    tokens = np.concatenate(pieces, axis=1)
    return [
      (prompt, continued(vocabulary, vocabulary.encode(prompt), row[row >= 0]))
      for prompt, row in zip(self.prompts, tokens)
    ]

  def encoded(self, vocabulary: Any, max_length: int) -> list[np.ndarray]:
    """The tokens of the prompts; a trainer may ask before it starts whether they fit."""
    prompts = [opening(vocabulary, prompt) for prompt in self.prompts]
    check(prompts, max_length)
    return prompts


def opening(vocabulary: Any, text: str, lead: int | None = None) -> np.ndarray:
  """(n,) int32 tokens of a document that begins with `text`, and `lead` before it.

  Where none is given it is end-of-text, which leads every document that is trained on here.
  """
  first = vocabulary.end if lead is None else lead
  return np.concatenate([[first], vocabulary.encode(text)]).astype(np.int32)


def continued(vocabulary: Any, before: Iterable[int], ids: Iterable[int]) -> str:
  """The text of `ids` where they stand behind `before`: many tokenizers drop a text's first space.

  A character that `ids` break off may change how the tokens before it are read; `ids` are then
  read alone.
  """
  before, ids = list(before), list(ids)
  start, whole = vocabulary.decode(before), vocabulary.decode([*before, *ids])
  return whole[len(start) :] if whole.startswith(start) else vocabulary.decode(ids)
