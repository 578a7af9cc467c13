"""The disk is full from a call on (ENOSPC): at every call that changes files but deletions."""

import errno

from .outcome import Outcome, Say
from .refused import refused


def run(n: int | None, seed: int, say: Say) -> Outcome:
  return refused(errno.ENOSPC, n, say)
