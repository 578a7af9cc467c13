"""Which rule each parameter falls under, by its path: decayed or not, frozen, at which rate.

A path is what a checkpoint calls the parameter: `blocks/3/attention/query/kernel`. Regular
expressions are matched against the layers' own names also where these are stacked (`stacking.py`),
so that an update does not depend on how the layers were run.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research import stacking
from research.errors import UserError, nearest
from research.stacking import spell

# Matrices are told by name, not by their number of axes: those of scanned layers have one more.
MATRICES = r"(^|/)(kernel|table|embedding)$"
# LoRA's arrays bear the name of their weight, and this at the end.
_ADAPTER = re.compile(r"_lora_[ab]$")
_SPLIT_INTO_HEADS = re.compile(r"(^|/)(query|key|value)/kernel$")


@dataclasses.dataclass(frozen=True)
class Groups:
  """Regular expressions over paths (found anywhere in them) that treat parameters apart.

  Attributes:
    decay: parameters that weight decay pulls to zero; by default weights, not biases or scales. The
      adapters of what is named here are meant, too.
    frozen: parameters that stay as they are and have no optimizer state.
    rates: (expression, factor) pairs that multiply the learning rate, and the decay with it; the
      first that is found counts. For example (("^embed/", 0.1),).
  """

  decay: str = MATRICES
  frozen: tuple[str, ...] = ()
  rates: tuple[tuple[str, float], ...] = ()

  def decays(self, name: str) -> bool:
    return any(re.search(self.decay, meant) for meant in _with_weight(name))

  def freezes(self, name: str) -> bool:
    return any(re.search(pattern, name) for pattern in self.frozen)

  def trained(self, params: Any) -> Any:
    """The parameters with None, which is no leaf, in the place of the frozen ones."""
    if not self.frozen:
      return params

    def one(path, x):
      return None if alike(self.freezes, path, x, f"frozen={self.frozen!r}") else x

    return jax.tree.map_with_path(one, params)

  def rate(self, name: str) -> float:
    found = (factor for pattern, factor in self.rates if re.search(pattern, name))
    return float(next(found, 1.0))

  def check(self, params: Any, **also: str) -> None:
    """UserError for an expression that is none, or that is found in no parameter's path.

    Args:
      params: all of them (arrays or their shapes).
      **also: more expressions by the name of their field, of what is trained.
    """
    if isinstance(self.frozen, str):
      raise UserError(f"frozen={self.frozen!r} must be a tuple: write ({self.frozen!r},).")
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in self.rates):
      raise UserError(f"rates={self.rates!r} must be pairs: write (('^embed/', 0.1),).")
    known = [name for path, x in jax.tree.leaves_with_path(params) for name in names(path, x)]
    named = [("frozen", pattern) for pattern in self.frozen]
    for field, pattern in [*named, *(("rates", pattern) for pattern, _ in self.rates)]:
      _check_found(field, pattern, known)
    trained = [name for name in known if not self.freezes(name)]
    if not trained:
      raise UserError(f"frozen={self.frozen!r} leaves no parameter to train; freeze fewer.")
    decayed = [meant for name in trained for meant in _with_weight(name)]
    for field, pattern in also.items():
      # What is frozen stays as it is, whatever names it.
      _check_found(field, pattern, decayed if field == "decay" else trained, " that is trained")


USUAL = Groups()


def all_but(*trained: str) -> str:
  """The expression for `Groups.frozen` that leaves only these to train: `all_but("^head/")`."""
  return f"^(?!.*(?:{'|'.join(trained)}))"


def layerwise(
  decay: float, depth: int, *, blocks: str = "(^|/)blocks/", embedding: str = "(^|/)embed"
) -> tuple[tuple[str, float], ...]:
  """`Groups.rates` that fall from the head, which has 1, down to the embedding.

  Layer i of `depth` learns at decay^(depth - i) of the rate, the embedding at decay^(depth + 1),
  and what matches neither expression, such as a head, at the whole (Clark et al., 2020; Bao et
  al., 2021, as their code counts).

  Raises:
    UserError: a decay that is not in (0, 1], or no layers.
  """
  if not 0 < decay <= 1:
    raise UserError(f"decay={decay!r} of the learning rate from layer to layer is in (0, 1].")
  if depth < 1:
    raise UserError(f"depth={depth} is the number of layers: give at least 1.")
  layers = ((f"{blocks}{i}/", decay ** (depth - i)) for i in range(depth))
  return (*layers, (embedding, decay ** (depth + 1)))


def merge(trained: Any, params: Any) -> Any:
  """The inverse of `Groups.trained`: where there is None, the leaf of `params`."""
  return jax.tree.map(
    lambda new, old: old if new is None else new, trained, params, is_leaf=lambda x: x is None
  )


class Axes(NamedTuple):
  """How the axes of a weight make a matrix: inputs by outputs, one for each stacked layer."""

  stack: tuple[int, ...]
  inputs: tuple[int, ...]
  outputs: tuple[int, ...]


def matrix_axes(path: Any, x: Any) -> Axes | None:
  """The matrix that a weight is, or None for biases, scales and whatever else is a vector.

  Queries, keys and values map one axis to heads and their sizes, (D, H, K) as D by HK; every other
  weight ends in the one axis that it produces: out (H, K, D) as HK by D, a table (V, D), a
  convolution (Y, X, C, F) as YXC by F.
  """
  first = stacked(path)
  name = spell(path)
  rest = tuple(range(first, len(x.shape)))
  if len(rest) < 2 or not re.search(MATRICES, name):
    return None
  cut = 1 if _SPLIT_INTO_HEADS.search(name) else len(rest) - 1
  return Axes(tuple(range(first)), rest[:cut], rest[cut:])


def layer_axes(path: Any, x: Any) -> tuple[int, ...]:
  """All axes of a parameter but the one that stacks layers: what a mean for one layer is over."""
  return tuple(range(stacked(path), len(x.shape)))


def stacked(path: Any) -> int:
  """The number of leading axes that count layers: 1 under `blocks/0::1`, otherwise 0."""
  return int(stacking.stacked(spell(path)))


def names(path: Any, x: Any) -> list[str]:
  """The names of what an array holds: its own, or one for each of its stacked layers."""
  return stacking.layers(spell(path), x.shape[0] if x.shape else 1)


def by_layer(function: Callable[[str], float], path: Any, x: Any) -> float | np.ndarray:
  """`function` of the name; where stacked layers differ in it, an array that broadcasts to x."""
  values = [function(name) for name in names(path, x)]
  known = not any(isinstance(value, jax.Array) for value in values)
  if len(values) == 1 or (known and len(set(values)) == 1):
    return values[0]
  made = np.asarray(values, np.float32) if known else jnp.stack(values)
  return made.reshape(-1, *[1] * (len(x.shape) - 1))


def alike(function: Callable[[str], bool], path: Any, x: Any, field: str) -> bool:
  """`function` of the name, which stacked layers must agree on; UserError with `field` if not."""
  values = {name: function(name) for name in names(path, x)}
  if len(set(values.values())) == 1:
    return next(iter(values.values()))
  yes = [name for name, value in values.items() if value]
  raise UserError(
    f"{field} matches {yes[0]} but not every layer that is scanned with it; match all of "
    f"{spell(path)}, or run the layers one by one with model.layers='loop'."
  )


def _with_weight(name: str) -> tuple[str, ...]:
  """A parameter's name; that of an adapter, and of the weight that it stands beside."""
  return tuple(dict.fromkeys((name, _ADAPTER.sub("", name))))


def _check_found(field: str, pattern: str, known: list[str], which: str = "") -> None:
  try:
    found = any(re.search(pattern, name) for name in known)
  except re.error as error:
    raise UserError(f"{field}={pattern!r} is not a regular expression: {error}.") from error
  if not found:
    raise UserError(f"{field}={pattern!r} matches no parameter{which}.{_close(pattern, known)}")


def _close(pattern: str, known: list[str]) -> str:
  """The nearest word of the paths, and the paths most like the expression."""
  text = re.sub(r"[^\w/]+", "", pattern).strip("/")
  words = {word for name in known for word in name.split("/")} | set(known)
  guess = nearest(text, words)
  ranked = sorted(known, key=lambda name: -difflib.SequenceMatcher(None, text, name).ratio())
  return f"{guess} Paths are {', '.join(ranked[:3])}{', ...' if len(ranked) > 3 else '.'}"
