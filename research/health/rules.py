"""What numbers of training say is wrong; pure functions and small memories, of one run each.

Every bound leaves room: what is said here should be right when it is said. The shipped experiments
stay far within.
"""

from __future__ import annotations

import collections
import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

SPIKE, BEYOND = 10.0, 2.0  # times the median of recent norms, and the largest of them
RECENT, LEAST = 64, 32  # norms, and how many there must be
QUIET = 100  # steps after a spike in which others are counted, not told
WINDOW = 50  # steps of a mean loss
GIVEN_BACK = 0.1  # of what the loss had come down by
DEVIATIONS = 6.0  # of the difference of two means
NEAR = 0.5  # of the highest learning rate
HIGH, LOW = 0.2, 1e-6  # of a weight's norm, in one update
DEAD = 0.5  # of a layer's units
NAMED = 3  # layers in a sentence


class Spikes:
  """Gradient norms far above those before."""

  def __init__(self):
    self._norms: collections.deque[float] = collections.deque(maxlen=RECENT)
    self._told, self._more = -math.inf, 0

  def see(self, step: int, norm: float) -> str:
    """A sentence where this norm is a spike that is to be told, else nothing."""
    enough = len(self._norms) >= LEAST
    usual = statistics.median(self._norms) if enough else math.inf
    highest = max(self._norms, default=math.inf)
    self._norms.append(norm)
    if not (norm > SPIKE * usual and norm > BEYOND * highest):
      return ""
    if step - self._told < QUIET:
      self._more += 1
      return ""
    more = f", after {self._more} more since step {self._told}" if self._more else ""
    self._told, self._more = step, 0
    return (
      f"the gradient has a spike: its norm is {norm:.3g}, where {usual:.3g} is usual{more}. "
      f"`research replay RUN --step {step}` shows which examples made it; clip the gradient, or "
      "let guard.spike pass over such steps."
    )


class Edge:
  """Whether the learning rate is past what training bears: the loss rises while it is high."""

  def __init__(self):
    self._losses: list[float] = []
    self._rates: list[float] = []
    self._highest = 0.0
    self._first: float | None = None
    self._best: tuple[float, float] | None = None

  def see(self, loss: float, rate: float) -> str:
    """A sentence at the end of a window in which the loss has risen, else nothing."""
    self._losses.append(loss)
    self._rates.append(rate)
    self._highest = max(self._highest, rate)
    if len(self._losses) < WINDOW:
      return ""
    mean, variance = float(np.mean(self._losses)), float(np.var(self._losses)) / WINDOW
    if self._first is None:
      self._first = float(np.mean(self._losses[:3]))
    rate, least = self._rates[-1], min(self._rates[-1], self._rates[0])
    self._losses, self._rates = [], []
    best = self._best
    if best is None or mean < best[0]:
      self._best = mean, variance
    if least < NEAR * self._highest:
      return ""
    return self._risen(mean, variance, best, rate)

  def _risen(self, mean: float, variance: float, best: tuple[float, float] | None, rate: float):
    noise = DEVIATIONS * math.sqrt(variance + (best[1] if best else 0.0))
    said = "Lower it, or warm up longer; clip the gradient where it is not clipped."
    if mean - self._first > max(noise, GIVEN_BACK * abs(self._first)):
      return (
        f"the learning rate {rate:.3g} is past its edge: the loss of the last {WINDOW} steps is "
        f"{mean:.4g} on average, above the {self._first:.4g} that it began with. {said}"
      )
    if best and mean - best[0] > max(noise, GIVEN_BACK * (self._first - best[0])):
      return (
        f"the learning rate {rate:.3g} is past its edge: the loss of the last {WINDOW} steps is "
        f"{mean:.4g} on average, and was {best[0]:.4g} before. {said}"
      )
    return ""


def above_unigrams(nats: Sequence[float], entropy: float) -> str:
  """A sentence where losses in nats per token are above those of token frequencies, else nothing.

  What they differ by from step to step is allowed for.
  """
  mean, error = float(np.mean(nats)), float(np.std(nats)) / math.sqrt(len(nats))
  if not mean > entropy + error:
    return ""
  return (
    f"the loss is {mean:.4g} nats per token after warmup, and {entropy:.4g} has who knows only how "
    "often each token comes: no context is used yet. Look at the inputs and targets (research "
    "data), the mask, and the learning rate."
  )


def out_of_range(ratios: Mapping[str, float], before: Mapping[str, float]) -> dict[str, str]:
  """ "fast" or "slow" -> a sentence, for weights whose updates are too large or too small.

  Args:
    ratios: name -> norm of an update over that of the weight, where 1e-3 is usual.
    before: the same, of an earlier look: once is no pattern.
  """
  told = {}
  both = [name for name in ratios if name in before]
  fast = [name for name in both if min(ratios[name], before[name]) > HIGH]
  slow = [name for name in both if max(ratios[name], before[name]) < LOW]
  if fast:
    told["fast"] = (
      f"an update changes {_named(fast, ratios, high=True)}; about 0.1 % is healthy. Lower the "
      "learning rate, there or everywhere."
    )
  if slow:
    told["slow"] = (
      f"an update changes {_named(slow, ratios, high=False)}; about 0.1 % is healthy. Does the "
      "loss depend on it, and is its learning rate what it should be?"
    )
  return told


def dead(shares: Mapping[str, float]) -> str:
  """A sentence where most units of a layer, of which these are the shares, are dead."""
  found = [name for name, share in shares.items() if share > DEAD]
  if not found:
    return ""
  worst = sorted(found, key=lambda name: -shares[name])[:NAMED]
  said = ", ".join(f"{100 * shares[name]:.0f} % of {name}" for name in worst)
  more = f" and {len(found) - NAMED} layers more" if len(found) > NAMED else ""
  return (
    f"units are dead: {said}{more} were silent for every token of two batches, and learn nothing. "
    "A lower learning rate or a longer warmup keeps them alive; so does another activation."
  )


def _named(found: Sequence[str], ratios: Mapping[str, float], *, high: bool) -> str:
  """The worst of them with their ratios, and how many more there are."""
  worst = sorted(found, key=lambda name: -ratios[name] if high else ratios[name])[:NAMED]
  said = ", ".join(f"{name} by {_percent(ratios[name])}" for name in worst)
  return said + (f" and {len(found) - NAMED} more like them" if len(found) > NAMED else "")


def _percent(ratio: float) -> str:
  return f"{100 * ratio:.3g} %"
