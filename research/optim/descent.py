"""What all optimizers share: clip, direction, decay, learning rate; nothing for what is frozen."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from research.errors import UserError
from research.optim.groups import alike, by_layer
from research.optim.schedules import schedule, traced


def descend(
  optimizer: Any,
  direction: optax.GradientTransformation,
  steps: int,
  rate: Callable[[str], float] = lambda name: 1.0,
) -> optax.GradientTransformation:
  """The whole update of an optimizer whose own part is `direction`.

  Args:
    optimizer: has the fields that all share (see optimizers.py).
    direction: gradients to directions; sees no frozen parameter.
    steps: updates in all.
    rate: of a parameter's name, a factor of its learning rate beside that of `groups`.

  Raises:
    UserError: a hyperparameter out of its range; when `init` sees the parameters, an expression
      that matches none.
  """
  _check(optimizer)
  groups = optimizer.groups
  whole = optax.named_chain(
    ("clip", optax.identity() if optimizer.clip is None else _clip(optimizer.clip)),
    ("direction", direction),
    ("step", _step(optimizer, schedule(optimizer.learning_rate).build(steps), rate)),
  )
  if groups.frozen:

    def label(path, x):
      frozen = alike(groups.freezes, path, x, f"frozen={groups.frozen!r}")
      return "frozen" if frozen else "trained"

    whole = optax.partition(
      {"trained": whole, "frozen": optax.set_to_zero()},
      lambda tree: jax.tree.map_with_path(label, tree),
    )

  def init(params):
    if jax.tree.leaves(params):  # optax.tree_map_params asks with a tree that has none
      groups.check(params, **expressions(optimizer))
    return whole.init(params)

  return optax.GradientTransformation(init, whole.update)


def expressions(optimizer: Any) -> dict[str, str]:
  """The regular expressions, beside those in `groups`, that have to match something."""
  found = {"decay": optimizer.groups.decay} if _decays(optimizer.weight_decay) else {}
  matrices = getattr(optimizer, "matrices", None)
  return found if matrices is None else {**found, "matrices": matrices}


def _decays(strength: float) -> bool:
  """Whether there is any weight decay; where only the running program knows, it is computed."""
  return traced(strength) or bool(strength)


def _clip(largest: float) -> optax.GradientTransformation:
  """One factor for the whole gradient, which fuses into the pass over each array that follows."""

  def update(updates, state, params=None):
    factor = largest / jnp.maximum(optax.tree.norm(updates), largest)
    return jax.tree.map(lambda g: g * factor.astype(g.dtype), updates), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _step(
  optimizer: Any, learning_rate: optax.Schedule, rate: Callable[[str], float]
) -> optax.GradientTransformation:
  """Directions to updates: adds the decay, multiplies by the learning rates, turns downhill."""
  groups, strength = optimizer.groups, optimizer.weight_decay

  def init(params):
    return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))

  def update(updates, state, params):
    now = -learning_rate(state.count)

    def one(path, u, p):
      factor = by_layer(lambda name: rate(name) * groups.rate(name), path, u)
      decayed = by_layer(groups.decays, path, u) if _decays(strength) else False
      if decayed is not False:
        u = u + (strength * decayed) * p
      return jnp.asarray(now * factor, u.dtype) * u

    updates = jax.tree.map_with_path(one, updates, params)
    return updates, optax.ScaleByScheduleState(optax.safe_increment(state.count))

  return optax.GradientTransformation(init, update)


def _check(optimizer: Any) -> None:
  for name in ("b1", "b2", "momentum"):
    value = getattr(optimizer, name, 0.0)
    if not traced(value) and not 0 <= value < 1:
      raise UserError(f"{name}={value!r} is the decay of a mean: choose one in [0, 1).")
  strength, clip = optimizer.weight_decay, optimizer.clip
  if not traced(strength) and not strength >= 0:
    raise UserError(f"weight_decay={strength!r} must be at least 0 (for none).")
  if clip is not None and not traced(clip) and not clip > 0:
    raise UserError(f"clip={clip!r} must be above 0, or None to clip nothing.")
