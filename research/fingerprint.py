"""What stands beside saved arrays, and tells whether they still are what they were.

Of every array its dtype, its shape, and a number for what it holds: the same on any mesh, another
one when a bit is another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_BITS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}


class Stored(NamedTuple):
  """An array as it was saved."""

  dtype: str
  shape: tuple[int, ...]
  fingerprint: int


class Manifest(NamedTuple):
  """What was saved: the arrays by name, and a few words about what they came from."""

  arrays: dict[str, Stored]
  about: dict[str, str]


def manifest(
  arrays: Mapping[str, jax.Array], numbers: Mapping[str, Any], about: Mapping[str, str]
) -> dict[str, Any]:
  """The arrays by name, with their fingerprints `numbers`, as JSON with a digest of it."""
  contents = {
    name: [jnp.dtype(x.dtype).name, list(x.shape), int(numbers[name])] for name, x in arrays.items()
  }
  return {"arrays": contents, "about": dict(about), "digest": _digest(contents, about)}


def read_manifest(contents: Mapping[str, Any]) -> Manifest:
  """The inverse of `manifest`; ValueError, KeyError or TypeError where it is damaged."""
  arrays, about = contents["arrays"], contents["about"]
  if contents["digest"] != _digest(arrays, about):
    raise ValueError("its manifest is not what was written")
  stored = {
    name: Stored(dtype, tuple(shape), number) for name, (dtype, shape, number) in arrays.items()
  }
  return Manifest(stored, about)


def fingerprints(arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """name -> uint32; to be jitted, and then about one pass over memory.

  The sum, modulo 2^32, of the bits of every element times an odd number that hashes its place.
  Sums of integers do not depend on their order, and so not on how an array is split. A flipped bit
  is always seen, for an odd number times a power of two is not zero; elements that have changed
  places are seen but for one case in 2^31.
  """
  return {name: _fingerprint(x) for name, x in arrays.items()}


def _fingerprint(x: jax.Array) -> jax.Array:
  if x.dtype == jnp.bool_:
    x = x.astype(jnp.uint8)
  bits = jax.lax.bitcast_convert_type(x, _BITS[x.dtype.itemsize]).astype(jnp.uint32)
  place = jnp.zeros(bits.shape, jnp.uint32)
  for axis, size in enumerate(bits.shape):
    place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
  # The multipliers of Murmur3's finalizer.
  mixed = (place ^ (place >> 16)) * jnp.uint32(0x85EBCA6B)
  mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
  return jnp.sum(bits * (mixed | 1), dtype=jnp.uint32)


def _digest(*parts: Any) -> str:
  return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()
