"""Every picture of a batch beside every caption, over all devices.

Either all captions are brought to every device, or they travel from one to the next (Zhai et al.,
2023, section 3.3); the scores of some pictures at a time stand in memory (`seen.py`).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from research.objectives.seen import See, Seen, Side, in_pieces, joined
from research.sharding import Layout, active, constrain, gather

EXCHANGES = ("gather", "ring")


def compared(
  see: See, numbers: Any, images: Side, texts: Side, *, pieces: int, exchange: str
) -> tuple[Seen, Seen]:
  """What every picture sees of all captions, and every caption of all pictures.

  Args:
    see, numbers, pieces: as of `in_pieces`; the pieces divide the pictures on every device.
    images, texts: of the global batch.
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
  parts = 1 if layout is None else layout.parts("B")
  return in_pieces(see, numbers, images, texts, pieces=pieces, parts=parts)


def _in_ring(see, numbers, images: Side, texts: Side, pieces: int, layout: Layout):
  """The captions go around, and with them what they have seen; after a round they are home."""
  axes = layout.spec("B", images.weights_B.shape)[0]

  def local(numbers, images, texts):
    def look(texts):
      return in_pieces(see, numbers, images, texts, pieces=pieces, parts=0)

    def hop(carry, _):
      by_image, texts, by_text = carry
      texts, by_text = _pass_on(axes, (texts, by_text))
      more = look(texts)
      return (joined(by_image, more[0]), texts, joined(by_text, more[1])), None

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


def _pass_on(axes: Any, tree: Any) -> Any:
  """Everything goes to the next device of the ring."""
  count = jax.lax.axis_size(axes)
  ring = [(i, (i + 1) % count) for i in range(count)]
  return jax.tree.map(lambda x: jax.lax.ppermute(x, axes, ring), tree)
