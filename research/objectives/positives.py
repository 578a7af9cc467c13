"""Which caption of a batch is true of which picture: its own, and those that say or show the same.

Where a caption is said of two pictures, each of them is as right as the other; a loss that knows
only the pairs as they were read calls one of them wrong.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from research.errors import UserError

ALIKE = ("caption", "picture")


def check(alike: tuple[str, ...]) -> None:
  """UserError where `alike` names anything else than `ALIKE`."""
  if isinstance(alike, str) or not set(alike) <= set(ALIKE):
    raise UserError(f"alike={alike!r} may hold {' and '.join(map(repr, ALIKE))}, as ('caption',).")


def marks(batch: dict[str, Any], alike: tuple[str, ...]) -> Array:
  """(B, A, W) uint32: examples that agree in all W words of one of the A marks are alike.

  Args:
    batch: "caption" (B, L) tokens; "picture" (B,) numbers of the pictures.
    alike: "caption": also those of the same tokens; "picture": also those of the same picture.

  Raises:
    UserError: the data does not number its pictures.
  """
  rows_B = jnp.arange(batch["weights"].shape[0], dtype=jnp.uint32)
  found = [jnp.stack([rows_B, jnp.zeros_like(rows_B)], axis=1)]
  if "caption" in alike:
    found.append(fingerprint(batch["caption"]))
  if "picture" in alike:
    if "picture" not in batch:
      raise UserError(
        "alike=('picture',): the batches have no 'picture', the number of each picture, by which "
        "several captions of one would be known; drop it from alike."
      )
    numbers_B = batch["picture"].astype(jnp.uint32)
    found.append(jnp.stack([numbers_B, jnp.zeros_like(numbers_B)], axis=1))
  return jnp.stack(found, axis=1)


def paired(marks_BAW: Array, others_JAW: Array) -> Array:
  """(B, J): which of the ones belongs to which of the others."""
  agree_BJA = (marks_BAW[:, None] == others_JAW[None]).all(-1)
  return agree_BJA.any(-1)


def fingerprint(tokens_BL: Array) -> Array:
  """(B, 2) uint32 of rows of tokens: others agree with one by chance once in 2^64."""
  places_L = jnp.arange(tokens_BL.shape[1], dtype=jnp.uint32)
  words = []
  for seed in (0x9E3779B9, 0x85EBCA6B):
    mixed_BL = _mixed(tokens_BL.astype(jnp.uint32) ^ _mixed(places_L + jnp.uint32(seed)))
    words.append(jnp.sum(mixed_BL, axis=1, dtype=jnp.uint32))
  return jnp.stack(words, axis=1)


def _mixed(x: Array) -> Array:
  """MurmurHash3's last step (Appleby, 2008): every bit of the input moves half of the output's."""
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
  return x ^ (x >> 16)
