"""Every picture of a batch beside every caption, in the memory of some pictures at a time.

What one side sees of the other is a few numbers for each example: a maximum, a sum, a log-sum-exp.
Such numbers of a part of the others and of the rest join into those of all (`JOIN`). So the scores,
which are as many as the batch squared, never stand in memory together: some pictures look at all
captions, and the backward pass looks again. Over devices either all captions are brought to every
device, or they travel from one to the next (Zhai et al., 2023, section 3.3).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from research.sharding import Layout, active, constrain, gather

LOWEST = -1e30  # of a score; not -inf, whose differences are not numbers
EXCHANGES = ("gather", "ring")


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

JOIN = {
  "log_sum": (jnp.logaddexp, jax.nn.logsumexp),
  "own": (jnp.add, jnp.sum),
  "pairs": (jnp.add, jnp.sum),
  "nats": (jnp.add, jnp.sum),
  "best": (jnp.maximum, jnp.max),
  "rival": (jnp.maximum, jnp.max),
}


def compared(
  see: See, numbers: Any, images: Side, texts: Side, *, pieces: int, exchange: str
) -> tuple[Seen, Seen]:
  """What every picture sees of all captions, and every caption of all pictures.

  Args:
    see: (numbers, some pictures, some captions) -> what they see of one another, of `JOIN`'s kinds.
    numbers: whatever else the scores depend on, such as their scale.
    images, texts: of the global batch.
    pieces: that the pictures look in, one after the other; divides them on every device.
    exchange: "gather" or "ring", see above; on one device there is no difference.
  """
  layout = active()
  if exchange == "ring" and layout is not None:
    rows = layout.spec("B", images.weights_B.shape)
    if rows and rows[0]:
      return _in_ring(see, numbers, images, texts, pieces, layout)
  images = Side(*(constrain(x, "B" + "." * (x.ndim - 1)) for x in images))
  vectors_JE = gather(constrain(texts.vectors_BE, "BE"), "BE", jnp.float32)
  texts = Side(vectors_JE, *(constrain(x, "." * x.ndim) for x in texts[1:]))
  return _in_pieces(functools.partial(see, numbers), images, texts, pieces, constrain)


def _in_pieces(see, images: Side, texts: Side, pieces: int, pin) -> tuple[Seen, Seen]:
  if pieces == 1:
    return see(images, texts)

  def cut(x):  # row by row in turn, so that each device keeps its own
    x = x.reshape(-1, pieces, *x.shape[1:]).swapaxes(0, 1)
    return pin(x, ".B" + "." * (x.ndim - 2))

  some = jax.tree.map(cut, images)
  by_image, by_text = jax.lax.map(jax.checkpoint(lambda some: see(some, texts)), some)
  whole = {name: y.swapaxes(0, 1).reshape(-1) for name, y in by_image.items()}
  return whole, {name: JOIN[name][1](y, axis=0) for name, y in by_text.items()}


def _in_ring(see, numbers, images: Side, texts: Side, pieces: int, layout: Layout):
  """The captions go around, and with them what they have seen; after a round they are home."""
  axes = layout.spec("B", images.weights_B.shape)[0]

  def local(numbers, images, texts):
    def look(texts):
      return _in_pieces(
        functools.partial(see, numbers), images, texts, pieces, pin=lambda x, letters: x
      )

    def hop(carry, _):
      by_image, texts, by_text = carry
      texts, by_text = _pass_on(axes, (texts, by_text))
      more = look(texts)
      return (_joined(by_image, more[0]), texts, _joined(by_text, more[1])), None

    by_image, by_text = look(texts)
    hops = jax.lax.axis_size(axes) - 1
    carry, _ = jax.lax.scan(jax.checkpoint(hop), (by_image, texts, by_text), length=hops)
    return carry[0], _pass_on(axes, carry[2])

  def split(x):
    return layout.spec("B" + "." * (x.ndim - 1), x.shape)

  sides = jax.tree.map(split, (images, texts))
  whole = jax.tree.map(lambda _: jax.sharding.PartitionSpec(), numbers)
  ring = jax.shard_map(
    local,
    mesh=layout.mesh,
    in_specs=(whole, *sides),
    out_specs=layout.spec("B", images.weights_B.shape),
    check_vma=False,
  )
  return ring(numbers, images, texts)


def _joined(one: Seen, other: Seen) -> Seen:
  return {name: JOIN[name][0](one[name], other[name]) for name in one}


def _pass_on(axes: Any, tree: Any) -> Any:
  """Everything goes to the next device of the ring."""
  count = jax.lax.axis_size(axes)
  ring = [(i, (i + 1) % count) for i in range(count)]
  return jax.tree.map(lambda x: jax.lax.ppermute(x, axes, ring), tree)
