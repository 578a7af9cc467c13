"""What the source never does, wherever it stands, and what hostile files never achieve."""

import ast
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import malicious

ROOT = Path(__file__).parent.parent
FILES = sorted(
  p for top in ("research", "launch", "experiments", "tests") for p in ROOT.glob(f"{top}/**/*.py")
)

# Reading runs code that the data names.
READERS = {
  "pickle",
  "cPickle",
  "_pickle",
  "cloudpickle",
  "dill",
  "marshal",
  "shelve",
  "jsonpickle",
  "joblib",
}
# They call home, or can: a run tells nobody of itself.
NETWORK = {
  "aiohttp", "ftplib", "http", "httpx", "mixpanel", "opentelemetry", "posthog", "prometheus_client",
  "requests", "segment", "sentry_sdk", "smtplib", "socketserver", "telnetlib", "urllib", "urllib3",
  "xmlrpc",
}  # fmt: skip
CALLS = {
  "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pty.spawn", "torch.load",
  "subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp", "runpy.run_path",
  "spec.loader.exec_module", "yaml.full_load", "yaml.unsafe_load", "yaml.unsafe_load_all",
}  # fmt: skip
METHODS = {"extractall", "unpack_archive", "load_module"}
KEYWORDS = {"shell", "allow_pickle", "trust_remote_code"}  # may be False
LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader"}
EVERYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104 (that is what is looked for)

# What is done all the same, and why. Each line was read.
ALLOWED = {
  ("research/load.py", "calls spec.loader.exec_module"): "an experiment file is the user's code",
  ("tests/test_clip.py", "calls spec.loader.exec_module"): "the same file, as a module",
  (
    "research/distributed.py",
    "binds to ''",
  ): "a coordinator of other machines; only tried, and closed",
}


def name(node: ast.AST) -> str:
  """`a.b.c` as it stands there."""
  match node:
    case ast.Name():
      return node.id
    case ast.Attribute():
      return f"{name(node.value)}.{node.attr}"
  return "?"


def offences(tree: ast.AST) -> Iterator[str]:
  """What a file does that none should."""
  for node in ast.walk(tree):
    match node:
      case ast.Import():
        yield from (f"imports {a.name}" for a in node.names if _banned(a.name))
      case ast.ImportFrom(module=module, level=0):
        yield from (f"imports {module}" for _ in [0] if _banned(module))
        yield from (
          f"imports {module}.{a.name}" for a in node.names if f"{module}.{a.name}" in CALLS
        )
      case ast.Call():
        yield from _call(node)
      case ast.Constant(value=str(text)) if text.startswith("http://") and len(text) > 7:
        yield f"names {text.split()[0]}, which anybody on the way can change"


def _banned(module: str) -> bool:
  return module.split(".")[0] in READERS | NETWORK


def _call(node: ast.Call) -> Iterator[str]:
  called = name(node.func)
  if called in CALLS or called.split(".")[-1] in METHODS:
    yield f"calls {called}"
  if called in ("yaml.load", "yaml.load_all"):
    loaders = [name(k.value) for k in node.keywords if k.arg == "Loader"] + [
      name(a) for a in node.args[1:]
    ]
    if not LOADERS & set(loaders):
      yield f"calls {called} without a safe loader"
  for keyword in node.keywords:
    value = getattr(keyword.value, "value", None)
    if keyword.arg in KEYWORDS and value is not False:
      yield f"gives {keyword.arg}={ast.unparse(keyword.value)}"
    if keyword.arg in ("host", "bind", "address") and value in EVERYWHERE:
      yield f"gives {keyword.arg}={value!r}"
  if called.endswith(".bind") and node.args and isinstance(node.args[0], ast.Tuple):
    host = getattr(node.args[0].elts[0], "value", None)
    if host in EVERYWHERE:
      yield f"binds to {host!r}"


@functools.cache
def found() -> dict[tuple[str, str], None]:
  return {
    (path.relative_to(ROOT).as_posix(), offence): None
    for path in FILES
    for offence in offences(ast.parse(path.read_text(encoding="utf-8")))
  }


def test_the_source_reads_runs_and_fetches_nothing_unsafe():
  wrong = [f"{path} {offence}" for path, offence in found() if (path, offence) not in ALLOWED]
  assert not wrong, "\n".join(wrong)


def test_what_is_allowed_is_still_there():
  assert not ALLOWED.keys() - found().keys()


@pytest.mark.parametrize(
  "line",
  [
    "import pickle", "import os, dill.session", "from joblib import load",
    "from urllib.request import urlopen", "import requests", "from os import system",
    "eval(x)", "exec(x)", "compile(x, '', 'exec')", "os.system(x)", "torch.load(x)",
    "yaml.load(x)", "yaml.load(x, yaml.Loader)", "yaml.unsafe_load(x)", "a.extractall(x)",
    "np.load(x, allow_pickle=True)", "np.load(x, allow_pickle=y)", "run(x, shell=True)",
    "f(x, trust_remote_code=True)", "s.bind(('', 80))", "s.bind(('0.0.0.0', 80))",
    "serve(host='0.0.0.0')", "fetch('http://host/x')", "shutil.unpack_archive(x)",
  ],
)  # fmt: skip
def test_the_rule_sees(line):
  assert list(offences(ast.parse(line)))


@pytest.mark.parametrize(
  "line",
  [
    "import re; re.compile(x)", "np.load(x)", "np.load(x, allow_pickle=False)", "model.eval()",
    "yaml.safe_load(x)", "yaml.load(x, Loader=yaml.SafeLoader)", "run(x, shell=False)",
    "s.bind(('127.0.0.1', 0))", "'https://host'", "ast.literal_eval(x)",
  ],
)  # fmt: skip
def test_the_rule_lets_pass(line):
  assert not list(offences(ast.parse(line)))


@pytest.mark.parametrize(
  "path", [*ROOT.glob("**/*.sh"), ROOT / ".ci" / "run"], ids=lambda p: p.name
)
def test_scripts_run_nothing_that_they_fetch(path):
  if path.exists() and ".venv" not in path.parts:
    text = path.read_text()
    assert not [w for w in ("curl", "wget", "http://", "--trusted-host", "eval ") if w in text]


IMPORTS = """
import pkgutil, sys, importlib
def hook(event, args):
  if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto",
               "socket.gethostbyname", "urllib.Request", "ftplib.connect", "smtplib.connect"):
    print("FETCHES", event, args, flush=True)
    raise RuntimeError("the network is not there")
sys.addaudithook(hook)
import launch, research
for top in (research, launch):
  for module in pkgutil.walk_packages(top.__path__, top.__name__ + "."):
    if not module.name.startswith("research.bench.peers"):  # of another interpreter
      importlib.import_module(module.name)
      print(module.name, flush=True)
"""


def test_importing_reaches_for_no_network():
  done = subprocess.run(
    [sys.executable, "-c", IMPORTS],
    capture_output=True,
    text=True,
    timeout=120,
    cwd=ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
  )
  assert done.returncode == 0, done.stderr[-2000:]
  assert "FETCHES" not in done.stdout
  assert len(done.stdout.split()) > 100


def test_hostile_files_are_refused_in_a_line_and_run_nothing(tmp_path, monkeypatch):
  """Some of each kind; `python -m tests.faults malicious` tries all."""
  monkeypatch.setenv("RESEARCH_CACHE", str(tmp_path))
  outcome = malicious.run(80, 0, lambda tried, of: None)
  assert outcome.tried == 80
  assert not outcome.failures


def test_every_exception_from_the_linter_says_why():
  lines = [(path, line) for path in FILES for line in path.read_text(encoding="utf-8").splitlines()]
  silent = [f"{path}: {line}" for path, line in lines if re.search(r"# noqa: S\d++(?! \()", line)]
  assert not silent, "\n".join(silent)
