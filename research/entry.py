"""The entry of a run: which it is, by what it was made and where, and how it stands.

A run keeps it in its own folder, from its first start on. Whatever lists runs reads these entries;
no list knows what they do not say.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from research import __version__, disk, distributed, lock, secrets
from research.errors import RunError, reason
from research.experiment import BOOKKEEPING, Experiment

FILE = "entry.json"
RUNNING, DONE, FAILED, STOPPED = "running", "done", "failed", "stopped"
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


@dataclasses.dataclass(frozen=True)
class Entry:
  """How a run stands.

  Attributes:
    name: of the experiment.
    identity: see `identity`.
    code: see `code`.
    seed: of the experiment.
    host: where it ran last.
    hardware: processor and cores that it might use there.
    versions: of Python and the libraries.
    state: "running", "done", "failed", or "stopped": it can go on.
    error: of a failed one, in a line.
    began, ended: seconds since 1970, of the first start and of the newest end.
    starts: how often it was started.
    cpu_seconds: of processor time, in all starts that came to an end of their own.
  """

  name: str
  identity: str
  code: str
  seed: int
  host: str
  hardware: str
  versions: dict[str, str]
  state: str
  error: str = ""
  began: float = 0.0
  ended: float | None = None
  starts: int = 0
  cpu_seconds: float = 0.0


def identity(description: Mapping[str, str]) -> str:
  """Sixteen letters for all fields of an experiment that its result depends on.

  They leave out its name, and what is recorded or where it runs (`BOOKKEEPING`). Experiments of
  one identity come to one result, as far as code and data, which have letters of their own, are
  the same.

  Args:
    description: as `Experiment.describe` gives it, or a run folder remembers.
  """
  left_out = ("name", *BOOKKEEPING)
  kept = [item for item in sorted(description.items()) if item[0].split(".")[0] not in left_out]
  return hashlib.blake2b(repr(kept).encode(), digest_size=8).hexdigest()


def of(experiment: Experiment) -> str:
  """The identity of an experiment."""
  return identity(secrets.describe(experiment.describe()))


def code(file: Path) -> str:
  """Sixteen letters for the source of this package, of an experiment file, and of what that imports
  from its side or from the folder above."""
  digest = hashlib.blake2b(_package(), digest_size=8)
  for path in sorted(_imported(file.resolve(), set())):
    digest.update(path.name.encode() + b"\0" + path.read_bytes())
  return digest.hexdigest()


def read(workdir: Path) -> Entry | None:
  """The entry in a run folder, None where there is none that can be read.

  Of a process that was killed it still says "running"; where nobody is at work in the folder any
  more, "stopped" is returned in its place.
  """
  try:
    found = json.loads((Path(workdir) / FILE).read_text(encoding="utf-8"))
    entry = Entry(**found)
  except (OSError, ValueError, TypeError):
    return None
  if entry.state == RUNNING and lock.holder(workdir) is None:
    return dataclasses.replace(entry, state=STOPPED)
  return entry


def write(workdir: Path, entry: Entry) -> None:
  """Replaces the entry in a folder; a disk that refuses it is told, and ends no run."""
  try:
    Path(workdir).mkdir(parents=True, exist_ok=True)
    disk.replace(Path(workdir) / FILE, json.dumps(dataclasses.asdict(entry), indent=1))
  except OSError as error:
    print(f"warning: {workdir}/{FILE} cannot be written: {error.strerror}", file=sys.stderr)


def first(experiment: Experiment, file: Path) -> Entry:
  """The entry of a run that has not begun."""
  return Entry(
    name=experiment.name,
    identity=of(experiment),
    code=code(file),
    seed=experiment.seed,
    host=socket.gethostname(),
    hardware=_hardware(),
    versions={
      "research": __version__,
      "python": platform.python_version(),
      **{name: importlib.metadata.version(name) for name in LIBRARIES},
    },
    state=RUNNING,
    began=time.time(),
  )


@contextlib.contextmanager
def entered(workdir: Path, experiment: Experiment, file: Path) -> Iterator[Callable[..., None]]:
  """A run says in its folder that it runs, and at the end of the block how it ended.

  Yields:
    What is to be called with whether the run is complete, and the error that ended it if one did;
    without it, it was stopped. An error that ends the block stands in the entry, in a line.
  """
  if not distributed.first():
    yield lambda complete, error=None: None
    return
  entry, before = first(experiment, file), read(workdir)
  if before is not None and before.identity == entry.identity:
    entry = dataclasses.replace(
      entry, began=before.began, starts=before.starts, cpu_seconds=before.cpu_seconds
    )
  entry = dataclasses.replace(entry, starts=entry.starts + 1)
  begun = time.process_time()
  write(workdir, entry)
  state, line = STOPPED, ""

  def ended(complete: bool, error: BaseException | None = None) -> None:
    nonlocal state, line
    state = DONE if complete else STOPPED
    if error is not None:
      state, line = FAILED, told(error)

  try:
    yield ended
  except Exception as error:
    state, line = FAILED, told(error)
    raise
  finally:
    spent = entry.cpu_seconds + time.process_time() - begun
    entry = dataclasses.replace(entry, state=state, error=line, ended=time.time())
    write(workdir, dataclasses.replace(entry, cpu_seconds=round(spent, 3)))


def told(error: BaseException) -> str:
  """An error in a line, without secrets."""
  line = " ".join(str(error).split()) if isinstance(error, RunError) else reason(error)
  return secrets.redact(line)


@functools.cache
def _package() -> bytes:
  root = Path(__file__).parent
  digest = hashlib.blake2b()
  for path in sorted(root.rglob("*")):
    if path.suffix in (".py", ".cc", ".h"):
      digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
  return digest.digest()


def _imported(file: Path, known: set[Path]) -> set[Path]:
  """A file, and those beside or above it that it imports, and they; nothing is run."""
  known.add(file)
  with contextlib.suppress(SyntaxError, ValueError):
    for node in ast.walk(ast.parse(file.read_bytes())):
      names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
      names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
      for name in filter(None, names):
        for folder in (file.parent, file.parent.parent):
          path = folder / f"{name.replace('.', '/')}.py"
          if path.is_file():
            if path not in known:
              _imported(path, known)
            break
  return known


def _hardware() -> str:
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  kind = platform.processor() or platform.machine()
  with contextlib.suppress(OSError):
    facts = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    kind = next(
      (line.split(":")[1].strip() for line in facts if line.startswith("model name")), kind
    )
  return f"{kind}, {cores} core{'s' if cores != 1 else ''}"
