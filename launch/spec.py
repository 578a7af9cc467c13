"""What a job needs, whoever runs it, and what the exit codes of a run mean to whoever restarts it.

The restarting itself is the engine's: each renderer tells its own how.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Mapping

from launch.machines import Topology
from research import secrets
from research.errors import UserError

FINAL = (2, 3, 4)  # a mistake, no sound checkpoint, numerics: another try would end the same way
STOPPED = 42  # by a signal, with a checkpoint
JOIN = 600  # seconds for the processes to find one another: machines and images come slowly
PORT = 8476  # of the coordinator, where the machines are ours alone


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
  """A job, or as many jobs as a sweep has runs.

  Attributes:
    name: of the whole; a job of a sweep adds the name of its run.
    runs: command of every run by its name; each is a job of its own.
    topology: machines of one job.
    image: container with the code in it.
    volume: what is mounted in the container, and where, as SOURCE:PATH.
    setup: a line of shell that runs first, on the host: modules, an environment, a disk.
    environment: variables of the processes.
    secret: the Kubernetes Secret whose entries become variables of the processes.
    grace: seconds between the signal to stop and the end.
    retries: so often a job is started again.
    hours: the longest that one start may take; None where the engine sets no limit.
    queue: of Kueue, or SLURM's partition.
    account: that SLURM charges.
    sbatch: further options of the site, as sbatch takes them.
    zone: of the cloud.
    spot: machines that can be taken away.
    parallel: runs of a sweep at the same time; None for all.
  """

  name: str
  runs: Mapping[str, tuple[str, ...]]
  topology: Topology
  image: str | None = None
  volume: str | None = None
  setup: str = ""
  environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
  secret: str | None = None
  grace: int = 120
  retries: int = 10
  hours: float | None = None
  queue: str | None = None
  account: str | None = None
  sbatch: tuple[str, ...] = ()
  zone: str | None = None
  spot: bool = False
  parallel: int | None = None

  def __post_init__(self):
    for field, least in (("grace", 1), ("retries", 0), ("parallel", 1), ("hours", 1 / 60)):
      value = getattr(self, field)
      if value is not None and not least <= value < math.inf:
        raise UserError(f"--{field} {value}: it must be at least {least:.2g}, and finite.")
    if self.hours is not None and self.hours * 3600 <= self.grace:
      raise UserError(
        f"--hours {self.hours} is within the --grace of {self.grace} s; give it more time."
      )
    for option in self.sbatch:
      if not re.fullmatch(r"--[a-z][a-z-]*(=\S+)?", option):
        raise UserError(f"--sbatch {option!r} is not --option or --option=value.")
    for name, value in self.environment.items():
      if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise UserError(f"--env {name}={value}: the name is no variable's; use letters and _.")
      if secrets.hidden(name, value) != value:
        raise UserError(
          f"--env {name}: what is written into a job can be read by others; keep it in the "
          "engine (--secret NAME for Kubernetes, your shell for SLURM and SkyPilot's --secret)."
        )
    for word in (word for command in self.runs.values() for word in command):
      name, _, value = word.partition("=")
      if secrets.hidden(name, value) != value:
        raise UserError(
          f"{name}: what is written into a job can be read by others; have the experiment file "
          "read it from the environment."
        )

  def need(self, field: str, why: str) -> str:
    """The value of a field that an engine cannot do without."""
    value = getattr(self, field)
    if value is None:
      raise UserError(f"--{field} is needed: {why}.")
    return value

  def jobs(self) -> dict[str, tuple[str, ...]]:
    """Commands by the name of their job."""
    jobs = {}
    for name, command in self.runs.items():
      job = label(self.name if len(self.runs) == 1 else f"{self.name}-{name}")
      if job in jobs:
        raise UserError(f"two runs would both be called {job}; rename {name}.")
      jobs[job] = command
    return jobs


def label(name: str) -> str:
  """A name that Kubernetes, SLURM and the clouds all take: at most 40 letters, digits and `-`.

  What had to be cut off stays distinct by six digits of its hash.
  """
  text = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"
  text = text if text[0].isalpha() else f"run-{text}"
  if len(text) <= 40:
    return text
  return f"{text[:33].rstrip('-')}-{hashlib.blake2b(name.encode(), digest_size=3).hexdigest()}"
