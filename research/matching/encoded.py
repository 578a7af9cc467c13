"""Pictures and texts as the unit vectors that a model of two towers gives them."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from research.data import captions, pipeline
from research.errors import UserError
from research.generate import language

ROWS = 64  # on the device at a time


class Encoder:
  """The towers of a model with its parameters; every batch is filled up to the same rows."""

  def __init__(self, model: Any, params: Any, rows: int = ROWS):
    self.rows, self._params = rows, {"params": params}
    place = language.replicated(params)

    def tower(method: str) -> Callable[..., Any]:
      def encode(params, *inputs):
        return model.apply(params, *inputs, method=method)

      return jax.jit(encode, out_shardings=place)

    self._image, self._text = tower("encode_image"), tower("encode_text")

  def images(self, image_BYXC: np.ndarray) -> np.ndarray:
    """(B, Y, X, C) from 0 to 255 -> (B, E)."""
    return self._in_batches(self._image, image_BYXC)

  def texts(self, caption_BL: np.ndarray, end_B: np.ndarray) -> np.ndarray:
    """Tokens and the places of their ends -> (B, E)."""
    return self._in_batches(self._text, caption_BL, end_B)

  def _in_batches(self, tower, *inputs: np.ndarray) -> np.ndarray:
    parts = []
    for first in range(0, len(inputs[0]), self.rows):
      some = [x[first : first + self.rows] for x in inputs]
      count = len(some[0])
      full = [np.pad(x, [(0, self.rows - count), *[(0, 0)] * (x.ndim - 1)]) for x in some]
      parts.append(np.asarray(jax.device_get(tower(self._params, *full)))[:count])
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


@dataclasses.dataclass(frozen=True)
class Words:
  """How texts become rows for the text tower, as they did in training.

  Attributes:
    vocabulary: of the run.
    length: of a row.
    start: the token before each text, or None.
    pad: the token behind the end of each.
  """

  vocabulary: Any
  length: int
  start: int | None
  pad: int = 0

  @classmethod
  def of(cls, dataset: Any, vocabulary: Any) -> Words:
    """Those of a dataset of pictures with captions."""
    length = dataset.example()["caption"].shape[1]
    start, pad = getattr(dataset, "start", None), getattr(dataset, "pad", 0)
    return cls(vocabulary, length, start, pad)

  def rows(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(N, L) tokens, (N,) places of their ends; what is too long loses its end."""
    return captions.rows(self.vocabulary, texts, self.length, self.start, self.pad)[:2]


@dataclasses.dataclass(frozen=True)
class Pairs:
  """The pictures and the captions of a split, each once, and which belong together.

  Attributes:
    images_PE, texts_TE: unit vectors.
    pairs: (n, 2) numbers of a picture and of a caption.
    first_image, first_text: (P,) and (T,) the number of the example where each comes first.
  """

  images_PE: np.ndarray
  texts_TE: np.ndarray
  pairs: np.ndarray
  first_image: np.ndarray
  first_text: np.ndarray


def pairs_of(
  encoder: Encoder,
  source: pipeline.Source,
  limit: int | None,
  stopping: Callable[[], bool],
  captions: int | None = None,
) -> Pairs | None:
  """Encodes the first pairs of a source, up to `limit`; None where `stopping` says so.

  A picture is known by its number, where batches have "picture", or else by its pixels; a caption
  by its tokens. So one with several captions is one picture, and captions that say the same are one
  caption, whichever pictures they are said of. Of each picture's captions only the first `captions`
  stay, or all of them.

  Raises:
    UserError: there are no pairs.
  """
  pictures, texts = _Distinct(), _Distinct()
  images_PE, texts_TE, pairs = [], [], []
  for examples, batch in batches(source, encoder.rows, limit):
    captions_BL = batch["caption"]
    numbers = batch.get("picture")
    keys = [x.tobytes() for x in batch["image"]] if numbers is None else numbers.tolist()
    image_B, new_images = pictures.numbers(keys, examples)
    text_B, new_texts = texts.numbers([x.tobytes() for x in captions_BL], examples)
    if new_images:
      images_PE.append(encoder.images(batch["image"][new_images]))
    if new_texts:
      texts_TE.append(encoder.texts(captions_BL[new_texts], batch["caption_end"][new_texts]))
    pairs.append(np.stack([image_B, text_B], axis=1))
    if stopping():
      return None
  check_any(pairs)
  kept = _first(np.concatenate(pairs), captions)
  used, text_of_pair = np.unique(kept[:, 1], return_inverse=True)
  return Pairs(
    np.concatenate(images_PE),
    np.concatenate(texts_TE)[used],
    np.unique(np.stack([kept[:, 0], text_of_pair], axis=1), axis=0),
    np.array(pictures.firsts),
    np.array(texts.firsts)[used],
  )


def _first(pairs: np.ndarray, captions: int | None) -> np.ndarray:
  """The pairs, in their order, of which no more than `captions` have the same picture."""
  if captions is None:
    return pairs
  had = collections.Counter[int]()
  kept = []
  for picture, _ in pairs.tolist():
    had[picture] += 1
    kept.append(had[picture] <= captions)
  return pairs[kept]


def batches(
  source: pipeline.Source, rows: int, limit: int | None
) -> Iterator[tuple[np.ndarray, pipeline.Batch]]:
  """The first `limit` examples in order, with their numbers; without padding, wherever it is."""
  size = len(source) if limit is None else min(limit, len(source))
  for i, batch in enumerate(pipeline.epoch(source, rows, limit=-(-size // rows))):
    numbers = np.arange(i * rows, min((i + 1) * rows, size))
    there = np.flatnonzero(batch["weights"][: len(numbers)])
    if len(there):
      yield numbers[there], {name: x[there] for name, x in batch.items()}


def check_any(found: Sequence[Any]) -> None:
  """UserError where nothing was found in a split."""
  if not found:
    raise UserError(
      "the split has nothing to evaluate; hold some of the data out, or drop the evaluation."
    )


class _Distinct:
  """Numbers for things in the order in which they come first.

  Attributes:
    firsts: of each, the number of the example where it comes first.
  """

  def __init__(self):
    self._known: dict[Any, int] = {}
    self.firsts: list[int] = []

  def numbers(self, keys: Iterable[Any], examples: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """The number of each, of an example, and the places in `keys` of those that are new."""
    numbers, new = [], []
    for place, (key, example) in enumerate(zip(keys, examples.tolist())):
      if key not in self._known:
        self._known[key] = len(self._known)
        self.firsts.append(example)
        new.append(place)
      numbers.append(self._known[key])
    return np.array(numbers, np.int64), new
