"""The disk is full from a call on (ENOSPC): at every call that changes files but deletions."""

import errno

from .children import children
from .outcome import Outcome, Say
from .refused import refused


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """Refuses calls from `n` points on, by default from all."""
  with children() as forks:
    return refused(forks, errno.ENOSPC, n, say)
