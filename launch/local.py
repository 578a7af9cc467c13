"""Processes on this machine, supervised: the reference that the engines are compared with.

All start together, all stop together, and when one dies all are started again, since a program
spread over processes cannot go on without one of them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from launch.spec import FINAL, STOPPED, Spec
from research.errors import UserError
from research.retention import Keep
from research.steps import Steps

TAKES = ("processes", "port", "env", "grace", "retries")
HOST = "127.0.0.1"
SETTLE = 5.0  # seconds for the others to end once one is dead: they wait for it and save nothing
LONGEST = 60.0  # seconds between two tries


def render(spec: Spec, port: int | None = None) -> str:
  """The commands as one would type them, one run after the other."""
  lines = []
  for name, command in spec.runs.items():
    lines.append(f"# {name}: {_plural(spec.topology.chips, 'process', 'processes')}, together")
    for process in range(spec.topology.chips):
      variables = _variables(spec, process, port or "PORT")
      words = [f"{key}={shlex.quote(value)}" for key, value in variables.items()]
      lines.append(" ".join([*words, shlex.join(command)]))
  return "\n".join(lines) + "\n"


def submit(spec: Spec, port: int | None = None) -> int:
  """Runs them here, and returns the exit code of the first run that fails, or 0."""
  for command in spec.runs.values():
    code = supervise(spec, command, port)
    if code:
      return code
  return 0


def supervise(spec: Spec, command: Sequence[str], port: int | None = None) -> int:
  """Runs the processes of one command until they are done, with as many tries as the spec has.

  SIGTERM and SIGINT are passed on, and the run then ends instead of starting again. As long as
  tries bring newer checkpoints, there is no end of them.

  Args:
    spec: processes (the chips of its topology), environment, grace and retries.
    command: words of every process.
    port: of the coordinator; None chooses a free one for every try.

  Returns:
    0, the first code that is final (2, 3, 4), or that of the last of `spec.retries` + 1 tries in a
    row without a newer checkpoint; 128 + n for signal n.
  """
  idle, steps = 0, _steps(command)
  with _interruptions() as stop:
    while True:
      code, cause = _once(spec, command, port, stop)
      if code == 0 or code in FINAL or stop.is_set():
        return code
      before, steps = steps, _steps(command)
      grown = [step for folder, step in steps.items() if step > before.get(folder, -1)]
      idle = 0 if grown else idle + 1
      if idle > spec.retries:
        _say(f"{cause}; {_plural(idle, 'try', 'tries')} in a row brought no newer checkpoint")
        return code
      pause = min(LONGEST, 2.0**idle)
      _say(
        f"{cause}; all start again in {pause:.0f} s "
        + (
          f"(step {grown[0]})"
          if grown
          else f"({idle} of {spec.retries} without a newer checkpoint)"
        )
      )
      if stop.wait(pause):
        return code


def _steps(command: Sequence[str]) -> dict[Path, int]:
  """The newest checkpoint of each run that a command goes on with, by its folder."""
  workdir = Path(dict(itertools.pairwise(command)).get("--workdir", "runs"))
  folders = workdir.glob("**/checkpoints")  # a file of several experiments has several runs
  found = {folder: Steps(folder, Keep()).all() for folder in folders}
  return {folder: max(steps) for folder, steps in found.items() if steps}


def _once(
  spec: Spec, command: Sequence[str], port: int | None, stop: threading.Event
) -> tuple[int, str]:
  """One try: the exit code of the whole, and what caused it."""
  count = spec.topology.chips
  port = _checked(port) if port else _free()
  running = []
  try:
    running += (_start(command, _variables(spec, i, port)) for i in range(count))
    readers = [_reader(process, i if count > 1 else None) for i, process in enumerate(running)]
    order = _wait(running, spec.grace, stop)
  finally:
    for process in running:
      _signal(process, signal.SIGKILL)
      process.wait()
  for reader in readers:
    reader.join(timeout=SETTLE)
  codes = [_code(running[i]) for i in order]
  for i, code in zip(order, codes):
    if code in FINAL:  # whatever the others made of its absence
      return code, _cause(i, code)
  for i, code in zip(order, codes):
    if code:
      return code, _cause(i, code)
  return 0, ""


def _wait(running: Sequence[subprocess.Popen], grace: float, stop: threading.Event) -> list[int]:
  """Waits until all have ended, by force if need be; who ended when, earliest first."""
  order: list[int] = []
  deadline, told = float("inf"), False
  while len(order) < len(running):
    ended = [i for i, p in enumerate(running) if i not in order and p.poll() is not None]
    # Who was killed is the cause; who ended by itself at the same moment missed it.
    order += sorted(ended, key=lambda i: _code(running[i]) <= 128)
    codes = [_code(running[i]) for i in order]
    dead = any(code not in (0, STOPPED) for code in codes)
    if (dead or stop.is_set()) and not told:
      # A second SIGTERM would end a process that is saving: each gets one.
      for i, process in enumerate(running):
        if i not in order:
          _signal(process, signal.SIGTERM)
      told, deadline = True, time.monotonic() + (grace if stop.is_set() else SETTLE)
    elif STOPPED in codes and deadline == float("inf"):
      deadline = time.monotonic() + grace  # they agreed on a step, and save it
    if time.monotonic() > deadline:
      for process in running:
        _signal(process, signal.SIGKILL)
    time.sleep(0.02)
  return order


def _start(command: Sequence[str], variables: Mapping[str, str]) -> subprocess.Popen:
  beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
  program = shutil.which(command[0], path=beside)
  if program is None:
    raise UserError(f"{command[0]} is not installed here: no such command.")
  try:
    return subprocess.Popen(  # noqa: S603 (the user's own command)
      [program, *command[1:]],
      env={**os.environ, **variables},
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      start_new_session=True,  # so that Ctrl-C reaches us alone, and its workers end with it
    )
  except OSError as error:
    raise UserError(f"{command[0]} cannot be run: {error.strerror}.") from error


def _variables(spec: Spec, process: int, port: int | str) -> dict[str, str]:
  """What tells a process which of how many it is; a lone one needs none of it."""
  count = spec.topology.chips
  variables = dict(spec.environment)
  if count > 1:
    variables["RESEARCH_COORDINATOR"] = f"{HOST}:{port}"
    variables["RESEARCH_PROCESSES"] = str(count)
    variables["RESEARCH_PROCESS"] = str(process)
    variables |= _share_of_gpus(process, count, {**os.environ, **variables})
  return variables


def _share_of_gpus(process: int, count: int, environment: Mapping[str, str]) -> dict[str, str]:
  """Each process sees its own of the GPUs that are meant: JAX would take all of them for each."""
  gpus = _gpus(environment)
  if not gpus or environment.get("JAX_PLATFORMS") == "cpu":
    return {}
  if len(gpus) % count:
    raise UserError(
      f"{count} processes cannot share {len(gpus)} GPUs evenly; "
      f"give --processes a divisor of {len(gpus)}, or set JAX_PLATFORMS=cpu."
    )
  each = len(gpus) // count
  return {"CUDA_VISIBLE_DEVICES": ",".join(gpus[process * each : (process + 1) * each])}


def _gpus(environment: Mapping[str, str]) -> list[str]:
  """The GPUs that the environment names, or all that there are."""
  there = [p.name for p in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", p.name)]
  named = environment.get("CUDA_VISIBLE_DEVICES")
  if named is None or not there:
    return [str(i) for i in range(len(there))]
  return [gpu for gpu in named.split(",") if gpu not in ("", "-1")]


def _reader(process: subprocess.Popen, rank: int | None) -> threading.Thread:
  """Copies the lines of a process to our output, led by its rank."""
  lead = b"" if rank is None else f"[{rank}] ".encode()

  def copy():
    for line in process.stdout:
      sys.stdout.buffer.write(lead + line)
      sys.stdout.buffer.flush()

  thread = threading.Thread(target=copy, daemon=True)
  thread.start()
  return thread


def _signal(process: subprocess.Popen, number: int) -> None:
  """To the process and all that it started, also when it has left them behind."""
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, number)


def _code(process: subprocess.Popen) -> int:
  """As a shell says it: 128 + n for signal n."""
  return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _cause(process: int, code: int) -> str:
  if code == STOPPED:
    return f"process {process} was stopped, with a checkpoint"
  signals = {128 + number: number.name for number in signal.Signals}
  if code in signals:
    return f"process {process} was ended by {signals[code]}"
  return f"process {process} ended with exit code {code}"


def _checked(port: int) -> int:
  with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      probe.bind((HOST, port))
    except (OSError, OverflowError) as error:
      raise UserError(
        f"--port {port}: another program has that port of {HOST}, or it is none; "
        "leave --port out and a free one is chosen."
      ) from error
  return port


def _free() -> int:
  with socket.socket() as probe:
    probe.bind((HOST, 0))
    return probe.getsockname()[1]


@contextlib.contextmanager
def _interruptions() -> Iterator[threading.Event]:
  """An event that SIGTERM and SIGINT set."""
  event = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield event  # only the main thread may set handlers
    return
  before = {
    number: signal.signal(number, lambda *_: event.set())
    for number in (signal.SIGTERM, signal.SIGINT)
  }
  try:
    yield event
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _say(text: str) -> None:
  print(f"launch: {text}", file=sys.stderr, flush=True)


def _plural(count: int, one: str, many: str) -> str:
  return f"{count} {one if count == 1 else many}"
