"""Several processes as one job: how they find one another, agree, and end together.

A process on its own needs none of this and pays for none of it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from research import secrets
from research.cluster import Job
from research.errors import IntegrityError, NumericsError, RunError, UserError

HEARTBEAT_SECONDS = 60  # of silence after which a process counts as dead; RESEARCH_HEARTBEAT
LEAVE_SECONDS = 60  # for which the first to be done waits for the last
SHARED_SECONDS = 5  # until a file is seen by all: network file systems remember for seconds
# What the errors of a computation speak of when another process is gone.
LOST = ("gloo", "nccl", "peer", "coordination", "heartbeat", "connection")


@contextlib.contextmanager
def joined(job: Job | None) -> Iterator[None]:
  """Belongs to `job` inside the block, which must come before JAX's first computation.

  What ends the block with a `RunError` ends it on all processes (see `together`), and they leave
  in order. Anything else ends this process at once: at an orderly exit it would wait for the
  others, and they for it.
  """
  if job is None:
    yield
    return
  _join(job)
  try:
    yield
  except RunError:
    raise
  except BaseException as error:
    _leave(error)


@contextlib.contextmanager
def together(what: str) -> Iterator[None]:
  """All processes come out of the block, or none: the failure of one is the failure of all.

  At the end of the block they wait for the slowest, for as long as that takes.

  Args:
    what: is done, for the line that the others print.

  Raises:
    RunError: on the processes that did not fail themselves, with the exit code of those that did.
  """
  if not several():
    yield
    return
  import numpy as np
  from jax.experimental import multihost_utils

  failure = None
  try:
    yield
  except Exception as error:
    failure = error
  code = 0 if failure is None else getattr(failure, "exit_code", RunError.exit_code)
  codes = multihost_utils.process_allgather(np.int32(code)).tolist()
  if failure is not None:
    raise failure
  if any(codes):
    failed = next(i for i, code in enumerate(codes) if code)
    kinds = {kind.exit_code: kind for kind in (UserError, IntegrityError, NumericsError)}
    kind = kinds.get(codes[failed], RunError)
    raise kind(f"process {failed} failed at {what}; what it printed says why.")


def several() -> bool:
  """Whether this process has joined others."""
  import jax

  return jax.distributed.is_initialized() and jax.process_count() > 1


def first() -> bool:
  """Whether this process is the one that prints, reports and writes what is not sharded."""
  import jax

  return not several() or jax.process_index() == 0


def agreed(answer: int) -> int:
  """What the first process answers, on all of them: a bool, or a number below 2^31."""
  if not several():
    return answer
  import numpy as np
  from jax.experimental import multihost_utils

  first_says = multihost_utils.broadcast_one_to_all(np.asarray(answer, np.int32))
  return type(answer)(first_says.item())


def make_shared(folder: Path) -> None:
  """Makes `folder` on a disk that all processes see.

  Raises:
    UserError: it cannot be made, or a process does not see what process 0 writes there.
  """
  with together("making the run folder"):
    if first():
      try:
        folder.mkdir(parents=True, exist_ok=True)
      except OSError as error:
        raise UserError(
          f"{folder} cannot be made: {error.strerror}; give another --workdir."
        ) from error
  if not several():
    return
  import jax
  from jax.experimental import multihost_utils

  # A name that no host has looked for before: network file systems remember what was not there.
  number = multihost_utils.process_allgather(time.time_ns() % 2**31)[0]
  sign = folder / f".seen-by-all-{number}"
  with together("making the run folder"):
    if first():
      sign.touch()
  with together("opening the run folder"):
    end = time.monotonic() + SHARED_SECONDS
    while not sign.exists():
      if time.monotonic() > end:
        raise UserError(
          f"process {jax.process_index()} does not see what process 0 writes into {folder}; "
          "give a --workdir on a disk that all processes share."
        )
      time.sleep(0.1)
  if first():
    sign.unlink()


def _join(job: Job) -> None:
  import jax

  if job.process == 0:
    _check_free(job.coordinator)
  # JAX ends the process with a stack of C++ when time is up; we are a little faster.
  timer = threading.Timer(job.seconds, _give_up, [job])
  timer.daemon = True
  timer.start()
  # Explicit is explicit: of a cluster around it JAX would take one device a process.
  named = {} if job.coordinator is None else {"cluster_detection_method": "deactivate"}
  if (job.coordinator or "").startswith(("127.0.0.1:", "localhost:")):
    named["coordinator_bind_address"] = job.coordinator  # otherwise it is open to the network
  try:
    jax.distributed.initialize(
      job.coordinator,
      job.processes,
      job.process,
      initialization_timeout=int(job.seconds) + 30,
      heartbeat_timeout_seconds=_heartbeat(),
      shutdown_timeout_seconds=LEAVE_SECONDS,
      **named,
    )
  except (ValueError, RuntimeError) as error:
    if job.coordinator is None and "should be defined" in str(error):
      raise UserError(
        "this looks like one process of a cluster, but JAX does not find the others; give "
        "--coordinator, --processes and --process (--processes 1 if there are no others; in "
        "Kubernetes JAX needs the package `kubernetes`)."
      ) from error
    raise RunError(f"{_who(job)} cannot join: {str(error).splitlines()[0]}.") from error
  finally:
    timer.cancel()
  # The first connection is made now, while all are here: Gloo waits for it only 30 seconds.
  with together("joining the job"):
    pass


def _heartbeat() -> int:
  text = os.environ.get("RESEARCH_HEARTBEAT", str(HEARTBEAT_SECONDS))
  if not text.isdecimal() or int(text) < 1:
    raise UserError(f"RESEARCH_HEARTBEAT={text}: give whole seconds, at least 1.")
  return int(text)


def _check_free(coordinator: str) -> None:
  """JAX crashes where it cannot listen, so it is tried before."""
  port = int(coordinator.rpartition(":")[2])
  with socket.socket() as listening:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      listening.bind(("", port))
    except OSError as error:
      raise RunError(
        f"process 0 cannot listen at the coordinator's port {port} ({error.strerror}); give "
        "another --coordinator, the same for all processes."
      ) from error


def _give_up(job: Job) -> None:
  """Ends the process with one line; the main thread is inside JAX and cannot be interrupted."""
  waited = f"within {job.seconds:g} seconds"
  if job.coordinator is None:
    problem = f"the processes of this cluster did not find one another {waited}"
  elif job.process != 0 and (reason := _unreachable(job.coordinator)):
    problem = (
      f"{_who(job)} could not reach the coordinator {job.coordinator} {waited} ({reason}); "
      "see whether process 0 runs there and the port is open"
    )
  else:
    problem = (
      f"not all of the {job.processes} processes came to the coordinator {job.coordinator} {waited}"
      "; see whether each was started, with a --process of its own"
    )
  print(f"error: {problem}.", file=sys.stderr, flush=True)
  os._exit(RunError.exit_code)


def _unreachable(coordinator: str) -> str:
  """Why nobody answers at "host:port", or nothing when somebody does."""
  host, _, port = coordinator.rpartition(":")
  try:
    socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
  except OSError as error:
    return error.strerror or str(error)
  return ""


def _who(job: Job) -> str:
  return "this process" if job.process is None else f"process {job.process} of {job.processes}"


def _leave(error: BaseException) -> None:
  import jax

  reason = str(error).splitlines()[0] if str(error) else type(error).__name__
  if isinstance(error, SystemExit):
    code = error.code
  elif isinstance(error, KeyboardInterrupt):
    code = 130
    print("interrupted", file=sys.stderr)
  elif isinstance(error, (RuntimeError, ValueError)) and any(
    word in reason.lower() for word in LOST
  ):
    code = RunError.exit_code
    print(
      f"error: process {jax.process_index()} has lost another process of the job, which ended or "
      f"cannot be reached ({reason[:200]}); start all of them again to go on from the last "
      "checkpoint.",
      file=sys.stderr,
    )
  else:
    code = RunError.exit_code
    told = "".join(traceback.format_exception(error))
    print(secrets.redact(told), end="", file=sys.stderr)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code if isinstance(code, int) else RunError.exit_code)
