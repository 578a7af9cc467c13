"""Runs that are over in no time, or come to harm on purpose: what sweeps are tried with.

Every start leaves a line in FOLDER/starts: the name, the process, its cores.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from pathlib import Path

from research import Experiment, UserError, data


@dataclasses.dataclass(frozen=True)
class Counted:
  """A model that counts nothing, and then does what `deed` says."""

  folder: str
  name: str
  deed: str

  def fit(self, stream, *, vocab_size, end):
    folder = Path(self.folder)
    with (folder / "starts").open("a") as file:
      cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
      file.write(f"{self.name} {os.getpid()} {cores}\n")
    starts = sum(line.split()[0] == self.name for line in (folder / "starts").open())
    if self.deed == "wait":
      while not (folder / "go on").exists():
        time.sleep(0.02)
    if self.deed == "refuse":
      raise UserError("nothing pleases it; give it up.")
    if self.deed == "crash":
      raise KeyError("crashed")
    if self.deed == "die" or (self.deed == "die once" and starts == 1):
      print("about to die", file=sys.stderr, flush=True)
      os.kill(os.getpid(), signal.SIGKILL)
    return self

  def save(self, path):
    path.write_bytes(b"")


def experiment(folder: str, deeds: str):
  """One run for each deed: end, wait, refuse, crash, die, die once."""
  for i, deed in enumerate(deeds.split(",")):
    name = f"run/{i}"
    yield Experiment(
      name=name,
      data=data.Text(data.Files(f"{folder}/text.txt", separator="\n"), data.Bytes(), length=8),
      model=Counted(folder, name, deed),
    )
