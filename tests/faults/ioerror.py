"""The disk is broken from a call on (EIO): at every call that changes files."""

import errno

from .children import children
from .outcome import Outcome, Say
from .refused import refused


def run(n: int | None, seed: int, say: Say) -> Outcome:
  """Refuses calls from `n` points on, by default from all."""
  with children() as forks:
    return refused(forks, errno.EIO, n, say)
