"""A run that is killed and started again ends with the very bits of one that was not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from research.verify.rows import DoesNotApply, Row, within
from research.verify.subject import Subject

KILL_AFTER = 3  # saved steps of twelve
PATIENCE = 300  # seconds for a run of seconds
LONGEST = 100  # steps of a run that could not be made as short as others


def resume(subject: Subject) -> Iterator[Row]:
  """Killed (SIGKILL) in the middle, resumed: every array of the last checkpoint is bit-equal."""
  if subject.experiment.optimizer is None:
    raise DoesNotApply("a counted model is fitted in one go")
  if subject.experiment.steps > LONGEST:
    raise DoesNotApply(
      f"its schedule takes {subject.experiment.steps:,} steps, and each would be saved; give "
      "steps=..., and a schedule that fits into them"
    )
  with tempfile.TemporaryDirectory(prefix="research-verify-") as folder:
    killed, whole = Path(folder) / "killed", Path(folder) / "whole"
    step = _run_and_kill(subject, killed)
    digests = json.loads(_finish(_start(subject, killed, whole)))
  broken, unbroken = (digests[str(path)] for path in (killed, whole))
  different = sorted(name for name in unbroken if broken.get(name) != unbroken[name])
  part = f"killed at step {step}"
  share = len(different) / len(unbroken)
  note = f"{len(different)} of {len(unbroken)} arrays differ, {', '.join(different[:2])} among them"
  yield within(part, share, 0.0, note)


def _start(subject: Subject, *workdirs: Path) -> subprocess.Popen:
  command = [sys.executable, "-m", "research.verify.child", subject.target]
  command += [json.dumps([str(path) for path in workdirs]), *subject.words]
  flags = os.environ.get("XLA_FLAGS", "").split()
  flags = [flag for flag in flags if "host_platform_device_count" not in flag]
  # One device of the CPU, whose sums have one order: an accelerator does not promise its bits.
  environment = {**os.environ, "XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"}
  return subprocess.Popen(  # noqa: S603 (ourselves)
    command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )


def _run_and_kill(subject: Subject, workdir: Path) -> int:
  """Starts a run, and kills it once it has saved some steps. Returns the newest step it saved.

  Raises:
    RuntimeError: it had saved none, or all of them, so that nothing was interrupted.
  """
  process = _start(subject, workdir)
  try:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
      if _saved(workdir) >= KILL_AFTER:
        break
      time.sleep(0.002)
    if process.poll() is not None:
      _finish(process)
      raise RuntimeError("the run was over before it could be killed")
  finally:
    process.kill()  # SIGKILL
    process.communicate()
  step = _saved(workdir)
  if not 0 < step < subject.experiment.steps:
    raise RuntimeError(f"the run was killed at step {step} of {subject.experiment.steps}")
  return step


def _saved(workdir: Path) -> int:
  folder = workdir / "checkpoints"
  names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
  return max((int(name) for name in names if name.isdigit()), default=0)


def _finish(process: subprocess.Popen) -> str:
  try:
    output, errors = process.communicate(timeout=PATIENCE)
  finally:
    process.kill()
  if process.returncode:
    last = (errors.strip().splitlines() or ["no message"])[-1]
    raise RuntimeError(f"a run ended with exit code {process.returncode}: {last}")
  return output.strip().splitlines()[-1]
