"""The disk is broken from a call on (EIO): at every call that changes files."""

import errno

from .outcome import Outcome, Say
from .refused import refused


def run(n: int | None, seed: int, say: Say) -> Outcome:
  return refused(errno.EIO, n, say)
