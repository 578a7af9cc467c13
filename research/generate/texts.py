"""From texts to texts: sources are encoded and cut to what a model reads, targets are decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from research.generate.language import wordless
from research.generate.translation import translations


class Words(NamedTuple):
  """The vocabularies of both sides, often one and the same.

  Attributes:
    source, target: they are; a source has end-of-text behind it.
  """

  source: Any
  target: Any


class Written(NamedTuple):
  """What a model wrote for a source.

  Attributes:
    text: of the target.
    score: see `Target`.
    left_out: tokens at the end of the source that the model could not read.
  """

  text: str
  score: float
  left_out: int


def write(
  model: Any,
  params: Any,
  words: Words,
  sources: Sequence[str],
  *,
  tokens: int,
  begin: int | None = None,
  lead: tuple[int, ...] = (),
  stopping: Callable[[], bool] = lambda: False,
  **settings: Any,
) -> list[Written] | None:
  """A target for every source, in their order; None where `stopping` said yes.

  Args:
    model, params: see `translations`.
    words: of both sides.
    sources: any texts; of one that is too long the end goes.
    tokens: of a target, at most.
    begin: the token before a target; end-of-text where none is given.
    lead: tokens before every source.
    stopping: asked after every few sources.
    **settings: `search`, `key` and `rows` of `translations`.
  """
  whole = [encoded.tolist() for encoded in words.source.encode_all(sources)]
  room = model.max_length - 1 - len(lead)
  found = translations(
    model,
    params,
    [np.array([*lead, *source[:room], words.source.end], np.int32) for source in whole],
    steps=tokens,
    begin=(words.target.end if begin is None else begin,),
    end=words.target.end,
    never=wordless(model, words.target),
    **settings,
  )
  written: dict[int, Written] = {}
  for i, target in found:
    text = words.target.decode(target.tokens)
    written[i] = Written(text, target.score, max(0, len(whole[i]) - room))
    if stopping():
      return None
  return [written[i] for i in range(len(sources))]
