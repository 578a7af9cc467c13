"""What a process of a sweep does: one run, as `research run` does it.

It has a session of its own, so that a Ctrl-C reaches the runner alone; its lines go into a file in
the run's folder; and when the runner is gone, however that ended, it saves and stops, since nobody
would know of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from research import entry, secrets
from research.errors import RunError, UserError
from research.experiment import Experiment
from research.load import Recipe
from research.sweep.shares import Share

OUTPUT = "output.log"  # in the folder of a run: all that its processes have printed
STOPPED = 42  # the exit code of a run that can go on
GRACE = 120.0  # seconds to save in, once the runner is gone


@dataclasses.dataclass(frozen=True)
class Task:
  """One run.

  Attributes:
    recipe: that makes its experiment.
    name: of the experiment.
    workdir: its folder.
    identity: of the experiment, as whoever starts the run knows it; see `entry.identity`.
  """

  recipe: Recipe
  name: str
  workdir: Path
  identity: str


def work(task: Task, share: Share) -> None:
  """Carries out a task in a share of the machine; ends this process with the exit code."""
  with contextlib.suppress(PermissionError):
    os.setsid()
  share.take()
  heed_runner()
  output_to(task.workdir / OUTPUT)
  sys.exit(_carry_out(task))


def heed_runner() -> None:
  """When the process that started this one is gone, this one is asked to stop, and then made to."""
  runner = multiprocessing.parent_process()

  def wait() -> None:
    runner.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)

  if runner is not None:
    threading.Thread(target=wait, daemon=True).start()


def output_to(path: Path) -> None:
  """All that this process prints from now on is appended to a file."""
  file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
  for stream in (sys.stdout, sys.stderr):
    stream.flush()
    os.dup2(file, stream.fileno())
  os.close(file)


def _carry_out(task: Task) -> int:
  try:
    from research.attempt import attempt

    finished = attempt(task.recipe, _experiment(task), task.workdir)
  except RunError as error:
    print(f"error: {secrets.redact(str(error))}", file=sys.stderr)
    return error.exit_code
  except KeyboardInterrupt:
    return 128 + signal.SIGINT
  except Exception:
    print(secrets.redact(traceback.format_exc()), end="", file=sys.stderr)
    return RunError.exit_code
  return 0 if finished.complete else STOPPED


def _experiment(task: Task) -> Experiment:
  """That of a task; UserError where the file, read only now, says something else by now."""
  made = {experiment.name: experiment for experiment in task.recipe.experiments()}.get(task.name)
  if made is None or entry.of(made) != task.identity:
    raise UserError(
      f"{task.recipe.path} has changed since this sweep began, and {task.name} with it; change it "
      "back, or start the sweep again."
    )
  return made
