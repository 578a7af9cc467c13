"""What some pictures and some captions see of one another: a few numbers for each example.

A maximum, a sum, a log-sum-exp: such numbers of a part of the others and of the rest join into
those of all (`JOIN`). So the scores, which are as many as the batch squared, need not stand in
memory together: some pictures look at all captions, then the next, and the backward pass looks
again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from research.sharding import constrain

LOWEST = -1e30  # of a score; not -inf, whose differences are not numbers


class Side(NamedTuple):
  """The pictures of a batch, or its captions.

  Attributes:
    vectors_BE: of length 1, float32.
    weights_B: 0 for padding.
    marks_BAW: a picture and a caption that agree in the words W of any mark A are a pair.
  """

  vectors_BE: Array
  weights_B: Array
  marks_BAW: Array


Seen = dict[str, Array]  # (B,) each
See = Callable[[Any, Side, Side], tuple[Seen, Seen]]

JOIN = {  # how what is seen of some joins with what is seen of others, and of nobody
  "log_sum": (jnp.logaddexp, LOWEST),
  "own": (jnp.add, 0.0),
  "pairs": (jnp.add, 0.0),
  "nats": (jnp.add, 0.0),
  "best": (jnp.maximum, LOWEST),
  "rival": (jnp.maximum, LOWEST),
}
SCORES = 2**21  # that stand in memory together on a device, where the batch is cut at all


def in_pieces(
  see: See, numbers: Any, images: Side, texts: Side, *, pieces: int, parts: int
) -> tuple[Seen, Seen]:
  """What pictures and captions see of one another.

  Args:
    see: (numbers, some pictures, some captions) -> what they see of one another, of `JOIN`'s
      kinds, float32; maxima without a gradient.
    numbers: whatever else the scores depend on, such as their scale.
    images, texts: all that are here.
    pieces: that the pictures look in, one after the other; where it is more than one and scores
      would still be many, in more of them.
    parts: that the compiler splits the pictures into; 0 where one device has its own.
  """
  if pieces == 1:
    return see(numbers, images, texts)
  rows, others = images.vectors_BE.shape[0], texts.vectors_BE.shape[0]
  each = max(parts, 1)
  while rows * others > SCORES * pieces * each and rows % (2 * pieces * each) == 0:
    pieces *= 2
  way = _Way(see, pieces, parts > 0)
  return _look(way, numbers, images.vectors_BE, texts.vectors_BE, (images[1:], texts[1:]))


class _Way(NamedTuple):
  """How pictures look: the function, in how many pieces, and whether the compiler splits these."""

  see: See
  pieces: int
  spread: bool

  def cut(self, tree: Any) -> Any:
    """Rows in turn, so that each device keeps its own."""

    def one(x):
      x = x.reshape(-1, self.pieces, *x.shape[1:]).swapaxes(0, 1)
      return constrain(x, ".B" + "." * (x.ndim - 2)) if self.spread else x

    return jax.tree.map(one, tree)

  def of_vectors(self, image_rest: Any, text_rest: Any) -> Callable[..., tuple[Seen, Seen]]:
    return lambda numbers, image_BE, text_JE: self.see(
      numbers, Side(image_BE, *image_rest), Side(text_JE, *text_rest)
    )


def _whole(tree: Any) -> Any:
  """The inverse of `cut`."""
  return jax.tree.map(lambda y: y.swapaxes(0, 1).reshape(-1, *y.shape[2:]), tree)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _look(way: _Way, numbers, image_BE, text_JE, rest) -> tuple[Seen, Seen]:
  return _look_forward(way, numbers, image_BE, text_JE, rest)[0]


def _look_forward(way, numbers, image_BE, text_JE, rest):
  def look(by_text, some):
    image, image_rest = some
    by_some, more = way.of_vectors(image_rest, rest[1])(numbers, image, text_JE)
    return joined(by_text, more), by_some

  some = way.cut((image_BE, rest[0]))
  image, image_rest = jax.tree.map(lambda x: x[0], some)
  _, like = jax.eval_shape(way.of_vectors(image_rest, rest[1]), numbers, image, text_JE)
  nobody = {name: jnp.full(x.shape, JOIN[name][1], x.dtype) for name, x in like.items()}
  by_text, by_image = jax.lax.scan(look, nobody, some)
  return (_whole(by_image), by_text), (numbers, image_BE, text_JE, rest, by_text)


def _look_backward(way, saved, gradients):
  numbers, image_BE, text_JE, rest, by_text = saved
  of_image, of_text = gradients

  def back(sums, some):
    image, image_rest, of_some = some
    see = way.of_vectors(image_rest, rest[1])
    (_, more), pull = jax.vjp(see, numbers, image, text_JE)
    # Of a log-sum-exp of all, that of some has the share that they have in the sum.
    share = jnp.exp(more["log_sum"] - by_text["log_sum"]) if "log_sum" in more else 1.0
    of_more = {name: g * share if name == "log_sum" else g for name, g in of_text.items()}
    numbers_more, image, text_more = pull((of_some, of_more))
    return jax.tree.map(jnp.add, sums, (numbers_more, text_more)), image

  nothing = jax.tree.map(jnp.zeros_like, (numbers, text_JE))
  some = way.cut((image_BE, rest[0], of_image))
  (of_numbers, of_text_JE), of_image_BE = jax.lax.scan(back, nothing, some)
  return of_numbers, _whole(of_image_BE), of_text_JE, None


_look.defvjp(_look_forward, _look_backward)


def joined(one: Seen, other: Seen) -> Seen:
  return {name: JOIN[name][0](one[name], other[name]) for name in one}
