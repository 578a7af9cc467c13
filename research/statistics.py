"""What a few seeds can say: intervals of paired differences, and the effects they could have seen.

Two arms that share a seed share the order of the data and, where shapes agree, the initial values:
their difference is one number, and the seeds are the sample. Evaluating on more examples makes each
number sharper and the sample no larger.

With three seeds the usual bootstraps fail. A percentile interval of a mean never leaves the range
of the three differences, which misses the truth in a quarter of all cases whatever its level is;
Hesterberg's expanded percentiles (2015) are bound by the same range; the bootstrap-t
divides by a resample's spread, which is zero once in nine, so that its 95 % interval is infinite.
What is left, and used here, is the "t interval with bootstrap standard error" of the same article:
the spread of the statistic over resamples, without their narrowness (a resample of n varies as if
it were of n - 1), times Student's t with n - 1 degrees of freedom. Of a mean that is Student's own
interval, exact for normal noise. Differences of equal arms are symmetric, whatever the noise, and
heavy tails then only widen it. Of seeds that fall into two basins far apart it cannot know: one of
two equal arms is then called better in 12 of 100 trials of three, not in 2.5.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from scipy import special  # not scipy.stats: experiment files import this, and it takes seconds

from research.errors import UserError

LEVEL = 0.95  # of every interval
POWER = 0.8  # with which an effect counts as one that would have been seen
RESAMPLES = 2000  # where there are too many different ones to take them all
_EXACT = 5  # sizes up to which all resamples are taken: 126 different ones


@dataclasses.dataclass(frozen=True)
class Interval:
  """An estimate and where the truth lies, in the unit of what was measured.

  Attributes:
    estimate: from the whole sample.
    low, high: ends of the interval of `LEVEL`.
    n: seeds.
  """

  estimate: float
  low: float
  high: float
  n: int

  @property
  def above_zero(self) -> bool:
    """Whether the noise cannot explain that it is positive."""
    return self.low > 0

  @property
  def below_zero(self) -> bool:
    """Whether the noise cannot explain that it is negative."""
    return self.high < 0

  def __neg__(self) -> Interval:
    return Interval(-self.estimate, -self.high, -self.low, self.n)


def mean(differences: Sequence[float]) -> Interval:
  """The interval of the mean of paired differences, one for each seed.

  Raises:
    UserError: fewer than two, or numbers that are not finite.
  """
  values = np.asarray(differences, float)
  if values.ndim != 1 or len(values) < 2:
    raise UserError(f"{values.size} paired differences show no noise; run at least two seeds.")
  if not np.isfinite(values).all():
    raise UserError("a paired difference is not finite; compare runs that did not diverge.")
  return _student(float(values.mean()), deviation(values) / math.sqrt(len(values)), len(values))


def interval(statistic: Callable[[np.ndarray], float], n: int) -> Interval:
  """The interval of any statistic of n seeds, by the bootstrap over seeds; of means, see `mean`.

  Args:
    statistic: of the numbers of the seeds that it is given, an array of n of 0 to n - 1, in
      which some may be repeated and others missing.
    n: at least 2.
  """
  estimate = float(statistic(np.arange(n)))
  chosen, weights = _resamples(n)
  values = np.array([statistic(np.array(indices)) for indices in chosen])
  center = weights @ values if np.ptp(values) else values[0]
  spread = math.sqrt(weights @ (values - center) ** 2 * n / (n - 1))
  return _student(estimate, spread, n)


def detectable(noise: float, n: int) -> float:
  """The smallest true mean difference that n seeds find in `POWER` of all trials.

  Found means that the interval of `mean` lies above zero: its t statistic has the noncentral t
  distribution, whose upper tail this solves for. An effect the other way is never found so.

  Args:
    noise: standard deviation of the difference of one pair, in the unit of the result. The
      statement holds for the true one. Given a sample's (`deviation`), the result is an estimate as
      rough as that is: of three seeds, anything from half to six times of it is not unusual.
    n: seeds, at least 2.
  """
  return float(special.nctdtrinc(n - 1, 1 - POWER, _bound(n))) * noise / math.sqrt(n)


def deviation(sample: Sequence[float]) -> float:
  """The standard deviation of what was drawn once, estimated from several; of equals exactly 0."""
  values = np.asarray(sample, float)
  return float(values.std(ddof=1)) if np.ptp(values) else 0.0


def _bound(n: int) -> float:
  """What Student's t of n seeds exceeds by luck in half of (1 - `LEVEL`) of all trials."""
  return float(special.stdtrit(n - 1, (1 + LEVEL) / 2))


def _student(estimate: float, error: float, n: int) -> Interval:
  reach = error * _bound(n)
  return Interval(estimate, estimate - reach, estimate + reach, n)


def _resamples(n: int) -> tuple[list[tuple[int, ...]], np.ndarray]:
  """Resamples of n with their probabilities: all that differ where n is small, or many by lot."""
  if n <= _EXACT:
    chosen = list(itertools.combinations_with_replacement(range(n), n))
    ways = [math.factorial(n) / _repeats(indices) for indices in chosen]
    return chosen, np.array(ways) / n**n
  drawn = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
  return [tuple(row) for row in drawn], np.full(RESAMPLES, 1 / RESAMPLES)


def _repeats(indices: tuple[int, ...]) -> int:
  return math.prod(math.factorial(times) for times in Counter(indices).values())
