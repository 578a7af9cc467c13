"""An update that is given, when it runs, what runs of a sweep differ in most.

The seed, the height of the learning rate and the weight decay are not compiled with it: experiments
that differ in these alone share one program.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from research.metrics import Metrics


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
  """(state, batch) -> (state, Metrics); the state is donated.

  Attributes:
    jitted: the program, which takes what is `given` beside the two.
    words: of the seed's key.
    numbers: of the optimizer (`optim.given`).
    place: where they lie: on every device.
  """

  jitted: Any
  words: np.ndarray
  numbers: Mapping[str, np.float32]
  place: jax.sharding.NamedSharding

  def __call__(self, state: Any, batch: Any) -> tuple[Any, Metrics]:
    return self.jitted(state, batch, *self.given)

  def lower(self, state: Any, batch: Any) -> jax.stages.Lowered:
    """For these shapes; what is compiled of it takes what is `given` as well."""
    return self.jitted.lower(state, batch, *self._shapes)

  def trace(self, state: Any, batch: Any) -> jax.stages.Traced:
    """For these shapes."""
    return self.jitted.trace(state, batch, *self._shapes)

  @functools.cached_property
  def given(self) -> tuple[jax.Array, dict[str, jax.Array]]:
    """On the devices, once."""
    return jax.tree.map(
      lambda x: jax.make_array_from_callback(x.shape, self.place, lambda index: x[index]),
      (self.words, {path: np.asarray(x) for path, x in self.numbers.items()}),
    )

  @property
  def _shapes(self) -> Any:
    return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.place),
      (self.words, dict(self.numbers)),
    )
