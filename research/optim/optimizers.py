"""Optimizers: frozen hyperparameters with `.build(steps) -> optax.GradientTransformation`.

Every one turns a gradient g into a direction u in its own way. The rest they share:

  g <- g * min(1, clip / norm(g))                         the norm over all that is trained
  p <- p - rate(i) * factor * (u + weight_decay * p)      decay only of what `groups.decay` names

so weight decay is decoupled from the direction (Loshchilov & Hutter, 2019, with the learning rate
as its factor, as in optax and PyTorch), also for SGD.

Fields that all share:
  learning_rate: a number, or one of the schedules.
  weight_decay: strength, at least 0.
  clip: largest global norm of the gradient, or None.
  groups: which parameters decay, are frozen, or learn at another rate.
"""

import dataclasses
import re
from typing import Any

import jax
import optax

from research.optim.adafactor import scale_by_adafactor
from research.optim.descent import descend, expressions
from research.optim.groups import USUAL, Groups, alike, names
from research.optim.muon import scale_by_muon
from research.optim.schedules import Schedule, traced


@dataclasses.dataclass(frozen=True)
class AdamW:
  """Adam with decoupled weight decay (Kingma & Ba, 2015; Loshchilov & Hutter, 2019)."""

  learning_rate: float | Schedule
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  weight_decay: float = 0.0
  clip: float | None = None
  groups: Groups = USUAL

  def build(self, steps: int) -> optax.GradientTransformation:
    return descend(self, optax.scale_by_adam(self.b1, self.b2, self.eps), steps)


@dataclasses.dataclass(frozen=True)
class Adafactor:
  """Adam's second moment in the memory of a row and a column (Shazeer & Stern, 2018).

  Attributes:
    exponent: the second moment's decay is 1 - t^-exponent at update t from 1 (section 7.2).
    eps: added to squared gradients.
    threshold: largest root mean square of a parameter's direction (section 6); None for no limit.
    min_scale: directions are multiplied by the root mean square of their parameter, at least this
      (section 8), so the learning rate is relative; None for an absolute one.
    smallest: matrices with a smaller side keep all their second moments.
  """

  learning_rate: float | Schedule
  exponent: float = 0.8
  eps: float = 1e-30
  threshold: float | None = 1.0
  min_scale: float | None = 1e-3
  smallest: int = 128
  weight_decay: float = 0.0
  clip: float | None = None
  groups: Groups = USUAL

  def build(self, steps: int) -> optax.GradientTransformation:
    direction = scale_by_adafactor(
      self.exponent, self.eps, self.threshold, self.min_scale, self.smallest
    )
    return descend(self, direction, steps)


@dataclasses.dataclass(frozen=True)
class Lion:
  """The sign of a momentum (Chen et al., 2023, algorithm 2).

  The paper advises a learning rate 3 to 10 times smaller than AdamW's, and as much more decay.
  """

  learning_rate: float | Schedule
  b1: float = 0.9
  b2: float = 0.99
  weight_decay: float = 0.0
  clip: float | None = None
  groups: Groups = USUAL

  def build(self, steps: int) -> optax.GradientTransformation:
    return descend(self, optax.scale_by_lion(self.b1, self.b2), steps)


@dataclasses.dataclass(frozen=True)
class SGD:
  """Stochastic gradient descent, with momentum m <- momentum * m + g (Sutskever et al., 2013).

  Attributes:
    nesterov: descends along g + momentum * m.
  """

  learning_rate: float | Schedule
  momentum: float = 0.0
  nesterov: bool = False
  weight_decay: float = 0.0
  clip: float | None = None
  groups: Groups = USUAL

  def build(self, steps: int) -> optax.GradientTransformation:
    plain = not traced(self.momentum) and not self.momentum
    direction = optax.identity() if plain else optax.trace(self.momentum, self.nesterov)
    return descend(self, direction, steps)


@dataclasses.dataclass(frozen=True)
class Muon:
  """Orthogonalized momentum for hidden matrices, AdamW for all else (Jordan et al., 2024).

  Attributes:
    learning_rate: of the matrices.
    adam_rate: the learning rate of all else, as a multiple of `learning_rate`.
    rms: None for Jordan's scale, sqrt(max(1, outputs / inputs)); 0.2 gives the matrices' updates
      the size of AdamW's (Liu et al., 2025), and then adam_rate=1.0 and AdamW's learning rates fit.
    momentum: of the matrices, Nesterov's.
    rounds: Newton-Schulz iterations.
    matrices: a regular expression over paths. Jordan leaves embeddings and heads to AdamW.
    b1, b2, eps: AdamW's.
  """

  learning_rate: float | Schedule
  adam_rate: float = 0.1
  rms: float | None = None
  momentum: float = 0.95
  rounds: int = 5
  matrices: str = r"(^|/)blocks/.*kernel$"
  b1: float = 0.9
  b2: float = 0.95
  eps: float = 1e-8
  weight_decay: float = 0.0
  clip: float | None = None
  groups: Groups = USUAL

  def build(self, steps: int) -> optax.GradientTransformation:
    def label(path, x):
      return "muon" if alike(self.is_matrix, path, x, f"matrices={self.matrices!r}") else "adam"

    directions = {
      "muon": scale_by_muon(self.momentum, self.rounds, self.rms),
      "adam": optax.scale_by_adam(self.b1, self.b2, self.eps),
    }
    direction = optax.partition(directions, lambda tree: jax.tree.map_with_path(label, tree))
    return descend(self, direction, steps, self.rate)

  def is_matrix(self, name: str) -> bool:
    return re.search(self.matrices, name) is not None

  def rate(self, name: str) -> float:
    """The learning rate's factor of a parameter, before that of `groups`."""
    return 1.0 if self.is_matrix(name) else self.adam_rate


def describe(optimizer: Any, params: Any) -> str:
  """One line for each way in which parameters are treated: how many, and an example.

  Args:
    optimizer: one of this file.
    params: nested dict of arrays or of their shapes.

  Raises:
    UserError: an expression of its groups matches no parameter.
  """
  groups = optimizer.groups
  groups.check(params, **expressions(optimizer))
  treated: dict[str, list[tuple[str, int]]] = {}
  for path, x in jax.tree.leaves_with_path(params):
    layers = names(path, x)
    for name in layers:
      kind, rate = type(optimizer).__name__, groups.rate(name)
      if isinstance(optimizer, Muon):
        kind, rate = ("Muon" if optimizer.is_matrix(name) else "AdamW"), rate * optimizer.rate(name)
      decay = optimizer.weight_decay if groups.decays(name) else 0.0
      how = f"{kind}, learning rate x {rate:g}, weight decay {decay:g}"
      how = "frozen" if groups.freezes(name) else how
      treated.setdefault(how, []).append((name, x.size // len(layers)))
  return "\n".join(
    f"{how}: {sum(size for _, size in found):,} numbers in {len(found)} arrays, as {found[0][0]}"
    for how, found in treated.items()
  )
