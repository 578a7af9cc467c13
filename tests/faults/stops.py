"""An end put to a run after a step of one's choice."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
from collections.abc import Iterator
from typing import Any

ENDS = {"term": signal.SIGTERM, "kill": signal.SIGKILL}


@dataclasses.dataclass(frozen=True)
class After:
  """In the place of samples: a signal to this process, once it has done so many steps.

  Attributes:
    steps: of this stretch of the run; 0 is never.
    how: a name in `ENDS`.
  """

  steps: int
  how: str = "term"
  every: int = 1
  done: Iterator[int] = dataclasses.field(
    default_factory=lambda: itertools.count(1), init=False, compare=False
  )

  def write(self, *_: Any) -> list[tuple[str, str]]:
    if next(self.done) == self.steps:
      os.kill(os.getpid(), ENDS[self.how])
    return [("", "")]  # a line of it, so that a run that goes on does not ask for it again
